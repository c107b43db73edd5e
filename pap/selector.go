package pap

import (
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Bounds of what a caller may name.
const (
	maxStages      = 16
	maxSelectIDs   = 1000
	maxSelectPairs = 16
	maxSelectBytes = 256 // of an id, a label's name, a label's value
	maxMinStage    = 24 * time.Hour
)

// check refuses a selector that no PEP could be meant by; path is its place in
// the request's body.
func (s Selector) check(path string) error {
	if len(s.IDs) > maxSelectIDs {
		return field(path+"/ids", "%d ids: at most %d", len(s.IDs), maxSelectIDs)
	}
	if len(s.Labels) > maxSelectPairs {
		return field(path+"/labels", "%d labels: at most %d", len(s.Labels), maxSelectPairs)
	}
	for i, id := range s.IDs {
		if id == "" || len(id) > maxSelectBytes || CheckText(id) != nil {
			return field(fmt.Sprintf("%s/ids/%d", path, i), "want 1 to %d bytes of text", maxSelectBytes)
		}
	}
	for name, value := range s.Labels {
		if name == "" || len(name) > maxSelectBytes || len(value) > maxSelectBytes || CheckText(name, value) != nil {
			return field(path+"/labels", "label %.32q: want a name, and at most %d bytes each of name and value", name, maxSelectBytes)
		}
	}
	return nil
}

// checkStages refuses stages that select everybody: after the last one come all.
func checkStages(p Publication) error {
	stages, minStage := p.Stages, p.MinStage
	if len(p.Tenants) > 0 && len(stages) == 0 || len(p.Tenants) > maxSelectIDs {
		return field("/tenants", "%d tenants: at most %d, and only with stages", len(p.Tenants), maxSelectIDs)
	}
	for i, tenant := range p.Tenants {
		if err := authz.ValidTenant(tenant); err != nil {
			return field(fmt.Sprintf("/tenants/%d", i), "%v", err)
		}
	}
	if len(stages) > maxStages {
		return field("/stages", "%d stages: at most %d", len(stages), maxStages)
	}
	for i, stage := range stages {
		path := fmt.Sprintf("/stages/%d", i)
		if len(stage.IDs)+len(stage.Labels) == 0 {
			return field(path, "name ids or labels: after the last stage come all others")
		}
		if err := stage.check(path); err != nil {
			return err
		}
	}
	if minStage < 0 || minStage > maxMinStage {
		return field("/min_stage_seconds", "want 0 to %d", int(maxMinStage.Seconds()))
	}
	return nil
}
