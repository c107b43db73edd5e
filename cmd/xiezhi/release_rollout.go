package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// rollout is what the server says of one.
type rollout struct {
	Release         uint64     `json:"release"`
	Base            uint64     `json:"base"`
	Stages          []selector `json:"stages"`
	Stage           int        `json:"stage"`
	State           string     `json:"state"`
	MinStageSeconds int        `json:"min_stage_seconds,omitempty"`
	Reason          string     `json:"reason,omitempty"`
	StartedBy       string     `json:"started_by"`
	StartedAt       time.Time  `json:"started_at"`
	ChangedAt       time.Time  `json:"changed_at"`
	Progress        []struct {
		Connected int `json:"connected"`
		Holding   int `json:"holding"`
		Rejected  int `json:"rejected"`
	} `json:"progress"`
}

func newReleaseRollout() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "rollout",
		Short:   "Watch, stop and hurry a release that reaches PEPs in stages",
		Example: "  xiezhi release rollout show 42\n  xiezhi release rollout abort 42 --reason 'wrong table'",
	})
	cmd.AddCommand(newRolloutShow(), newRolloutAction("abort", "Halt a rollout, and restore the release before it"),
		newRolloutAction("advance", "Begin the next stage without waiting for the PEPs of this one"))
	return cmd
}

func newRolloutShow() *cobra.Command {
	var at remoteFlags
	cmd := &cobra.Command{
		Use:     "show RELEASE",
		Short:   "Show how far a rollout is",
		Example: "  xiezhi release rollout show 42",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var r rollout
			if err := server.get(cmd.Context(), rolloutPath(args[0]), nil, &r); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, r)
			}
			p := newPrinter(cmd)
			p.line("release %s: %s, begun by %s at %s; all others hold release %s", strconv.FormatUint(r.Release, 10), r.State, r.StartedBy, timeText(r.StartedAt), strconv.FormatUint(r.Base, 10))
			if r.Reason != "" {
				p.line("%s", r.Reason)
			}
			p.table("", r.rows())
			return p.err
		},
	}
	at.register(cmd)
	return cmd
}

func (r *rollout) rows() [][]string {
	rows := [][]string{{"STAGE", "STATE", "HOLD IT", "REFUSE IT", "PEPS"}}
	for i, stage := range r.Stages {
		state := "waits"
		switch {
		case i < r.Stage || r.State == "done":
			state = "over"
		case i == r.Stage:
			state = r.State
		}
		hold, refuse := "", ""
		if i < len(r.Progress) {
			hold = fmt.Sprintf("%d of %d", r.Progress[i].Holding, r.Progress[i].Connected)
			if n := r.Progress[i].Rejected; n > 0 {
				refuse = strconv.Itoa(n)
			}
		}
		rows = append(rows, []string{strconv.Itoa(i + 1), state, hold, refuse, stage.String()})
	}
	return rows
}

func newRolloutAction(action, short string) *cobra.Command {
	var at remoteFlags
	var reason string
	cmd := &cobra.Command{
		Use:     action + " RELEASE",
		Short:   short,
		Example: "  xiezhi release rollout " + action + " 42",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			body := map[string]string{"action": action}
			if reason != "" {
				body["reason"] = reason
			}
			var changed struct {
				Release  uint64 `json:"release"`
				Action   string `json:"action"`
				Revision string `json:"revision"`
			}
			if err := server.send(cmd.Context(), http.MethodPost, rolloutPath(args[0]), body, &changed); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, changed)
			}
			p := newPrinter(cmd)
			p.line("rollout of release %s: %s, revision %s", args[0], map[string]string{"abort": "aborted", "advance": "advanced"}[action], changed.Revision)
			return p.err
		},
	}
	at.register(cmd)
	if action == "abort" {
		cmd.Flags().StringVar(&reason, "reason", "", "why; the audit and the new release show it")
	}
	return cmd
}

func rolloutPath(number string) string {
	return "/api/v1/releases/" + url.PathEscape(number) + "/rollout"
}
