//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// sdkPeer is a process that embeds OPA's v1/sdk (tests/peers/sdk) and measures
// itself: Go maps in, findings out.
type sdkPeer struct {
	*child
	dir string
}

func startSDK(binary string, content *bundles.Content, asked []question, of []int, inputs []input) (*sdkPeer, error) {
	dir, err := os.MkdirTemp("", "opa-sdk-")
	if err != nil {
		return nil, err
	}
	packed, questions := filepath.Join(dir, "bundle.tar.gz"), filepath.Join(dir, "questions.json")
	p := &sdkPeer{dir: dir}
	if err = writeOPABundle(packed, content, asked); err == nil {
		err = writeQuestions(questions, asked, of, inputs)
	}
	if err == nil {
		cmd := exec.Command(binary, packed, questions)
		cmd.Stderr = os.Stderr
		p.child, err = startChild(cmd)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// writeOPABundle writes what [startOPA] gives a server as a bundle.
func writeOPABundle(path string, content *bundles.Content, asked []question) error {
	files, err := opaFiles(content, asked)
	if err != nil {
		return err
	}
	var b bundle.Bundle
	b.Manifest.Init()
	for _, f := range files {
		if f.Path == "data.json" {
			err = json.Unmarshal(f.Data, &b.Data)
		} else {
			b.Modules = append(b.Modules, bundle.ModuleFile{URL: f.Path, Path: f.Path, Raw: f.Data})
		}
		if err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).UseModulePath(true).Write(b); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o600)
}

func writeQuestions(path string, asked []question, of []int, inputs []input) error {
	type one struct {
		Path  string         `json:"path"`
		Input map[string]any `json:"input"`
	}
	all := make([]one, len(inputs))
	for i := range inputs {
		all[i] = one{"bench/" + asked[of[i]].name + "/findings", inputs[i].peers}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// agree makes sure that the peer finds on every input what is wanted there.
func (p *sdkPeer) agree(wanted [][]finding) error {
	var answers []any
	if err := p.ask(work{Do: "answers"}, &answers); err != nil {
		return fmt.Errorf("opa v1/sdk: %w", err)
	}
	if len(answers) != len(wanted) {
		return fmt.Errorf("opa v1/sdk: %d answers to %d inputs", len(answers), len(wanted))
	}
	for i, answer := range answers {
		found, err := findingsOfPeer(answer)
		if err != nil {
			return fmt.Errorf("input %d: opa v1/sdk: %w", i, err)
		}
		if !slices.Equal(found, wanted[i]) {
			return fmt.Errorf("input %d: opa v1/sdk finds %v, want %v", i, found, wanted[i])
		}
	}
	return nil
}

func (p *sdkPeer) side(single bool) side {
	return side{"opa v1/sdk", func(d time.Duration) (sample, error) { return p.work(work{For: d, Single: single}) }}
}

func (p *sdkPeer) stop() error { return errors.Join(p.child.stop(), os.RemoveAll(p.dir)) }
