package cheq

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// file is a template as it is written.
type file struct {
	Title    Text         `yaml:"title"`
	Kind     TemplateKind `yaml:"kind"`
	DecideBy span         `yaml:"decide_by"`
	GrantFor struct {
		Default span `yaml:"default"`
		Ceiling span `yaml:"ceiling"`
	} `yaml:"grant_for"`
	Uses         int         `yaml:"uses"`
	AllOf        []fileGroup `yaml:"all_of"`
	AnyOf        []fileGroup `yaml:"any_of"`
	Escalate     []fileStep  `yaml:"escalate"`
	ReviewWithin span        `yaml:"review_within"`
	Offers       []Offer     `yaml:"offers"`
	Reason       string      `yaml:"reason"`
	Notify       []Place     `yaml:"notify"`
	BreakGlass   string      `yaml:"break_glass"`
}

type fileGroup struct {
	Name      string `yaml:"name"`
	Title     Text   `yaml:"title"`
	People    `yaml:",inline"`
	Approvals int `yaml:"approvals"`
	Denials   int `yaml:"denials"`
}

type fileStep struct {
	After  span    `yaml:"after"`
	Remind bool    `yaml:"remind"`
	Group  string  `yaml:"group"`
	Add    *People `yaml:"add"`
	Switch *People `yaml:"switch"`
}

const reasonRequired = "required"

// span is a duration such as 72h or 30m.
type span time.Duration

func (s *span) UnmarshalYAML(node *yaml.Node) error {
	d, err := time.ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q: want a duration such as 72h or 30m", node.Line, node.Value)
	}
	*s = span(d)
	return nil
}

// TemplateError says what is wrong with a template, and where.
type TemplateError struct {
	File   string
	Line   int // from 1; 0: the whole file
	Detail string
}

func (e *TemplateError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Detail
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Detail)
}

// ParseTemplate reads approvals/<name>.yaml strictly: a member it does not
// know, one that is given twice, or a second document is an error, which is
// always a [*TemplateError]. A group's name is that of its English title, in
// lower case, where it has none; one no ends a group unless it says more
// denials.
func ParseTemplate(filePath string, data []byte) (*Template, error) {
	var f file
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil {
		return nil, unreadable(filePath, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &TemplateError{File: filePath, Detail: "want one YAML document"}
	}
	t := &Template{
		Name: strings.TrimSuffix(path.Base(filePath), path.Ext(filePath)), Title: f.Title, Kind: f.Kind,
		DecideBy: time.Duration(f.DecideBy), GrantFor: time.Duration(f.GrantFor.Default), GrantMost: time.Duration(f.GrantFor.Ceiling),
		Uses: f.Uses, AllOf: groups(f.AllOf), AnyOf: groups(f.AnyOf),
		ReviewWithin: time.Duration(f.ReviewWithin), Offers: f.Offers,
		Reason: f.Reason == reasonRequired || f.Kind == BreakGlass, Notify: f.Notify, BreakGlass: f.BreakGlass,
	}
	if f.Reason != "" && f.Reason != reasonRequired {
		const detail = "reason: want " + reasonRequired + ", or leave it out"
		return nil, &TemplateError{filePath, lineOf(data, detail), detail}
	}
	if t.Kind == "" {
		t.Kind = Ordinary
	}
	for _, s := range f.Escalate {
		t.Steps = append(t.Steps, Step{time.Duration(s.After), s.Remind, s.Group, s.Add, s.Switch})
	}
	if err := t.check(); err != nil {
		return nil, &TemplateError{filePath, lineOf(data, err.Error()), err.Error()}
	}
	return t, nil
}

// unreadable takes the line out of what the YAML decoder says.
func unreadable(filePath string, err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	e := &TemplateError{File: filePath, Detail: text}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, detail, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(number); err == nil {
				e.Line, e.Detail = line, detail
			}
		}
	}
	return e
}

// lineOf finds the member that a fault begins with, "escalate/1: after …".
func lineOf(data []byte, fault string) int {
	var document yaml.Node
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return 0
	}
	place, _, _ := strings.Cut(fault, ":")
	node, line := document.Content[0], 0
	for step := range strings.SplitSeq(place, "/") {
		i, err := strconv.Atoi(step)
		switch {
		case err == nil && node.Kind == yaml.SequenceNode && i < len(node.Content):
			node, line = node.Content[i], node.Content[i].Line
			continue
		case node.Kind != yaml.MappingNode:
			return line
		}
		at := slices.IndexFunc(node.Content, func(n *yaml.Node) bool { return n.Value == step })
		if at < 0 || at%2 == 1 {
			return line
		}
		node, line = node.Content[at+1], node.Content[at].Line
	}
	return line
}

func groups(written []fileGroup) []Group {
	var all []Group
	for _, w := range written {
		g := Group{Name: w.Name, Title: w.Title, People: []People{w.People}, Approvals: w.Approvals, Denials: w.Denials}
		if g.Name == "" {
			g.Name = strings.ToLower(w.Title.EN)
		}
		if g.Denials == 0 {
			g.Denials = 1
		}
		all = append(all, g)
	}
	return all
}
