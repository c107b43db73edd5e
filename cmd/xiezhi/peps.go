package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// pep is what the server says of one.
type pep struct {
	Key          string            `json:"key"`
	ID           string            `json:"id"`
	Tenant       string            `json:"tenant"`
	Subject      string            `json:"subject"`
	Tenants      []string          `json:"tenants"`
	Labels       map[string]string `json:"labels"`
	Version      string            `json:"version,omitempty"`
	Address      string            `json:"address"`
	Node         string            `json:"node"`
	Kind         string            `json:"kind"`
	Connected    bool              `json:"connected"`
	ConnectedAt  time.Time         `json:"connected_at"`
	SeenAt       time.Time         `json:"seen_at"`
	Revision     string            `json:"revision"`
	Digest       string            `json:"digest"`
	AckedAt      time.Time         `json:"acked_at,omitzero"`
	HonoursUntil time.Time         `json:"honours_until,omitzero"`
	Stale        bool              `json:"stale"`
	Rejects      uint64            `json:"rejects"`
	Rejected     *rejection        `json:"rejected,omitempty"`
	Target       uint64            `json:"target"`
	Lag          struct {
		Releases  uint64 `json:"releases"`
		Positions uint64 `json:"positions"`
	} `json:"lag"`
}

type rejection struct {
	Release  uint64    `json:"release,omitempty"`
	Position uint64    `json:"position,omitempty"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

func newPEPs() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "peps",
		Short:   "Show which enforcement points run what",
		Example: "  xiezhi peps list\n  xiezhi peps list --labels zone=a --connected\n  xiezhi peps show shop-7",
	})
	cmd.AddCommand(newPEPsList(), newPEPsShow())
	return cmd
}

func newPEPsList() *cobra.Command {
	var (
		at                         remoteFlags
		tenant, serves, labels, id string
		connected                  bool
		limit                      int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List PEPs with what each holds and lacks",
		Long: `List prints one line a PEP: whether it is connected, what it acknowledged last, how
far that is behind, and why it refused what it was sent. Behind is counted in
releases and log positions, 1r 3g. A tenant's reader sees the tenant's own.`,
		Example: "  xiezhi peps list --connected\n  xiezhi peps list --serves acme --labels zone=a,kind=gateway",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"tenant": tenant, "serves": serves, "labels": labels, "id": id} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if connected {
				query.Set("connected", "true")
			}
			peps, err := listAll[pep](cmd.Context(), server, "/api/v1/peps", query, limit)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, peps)
			}
			rows := [][]string{{"PEP", "STATE", "REVISION", "BEHIND", "LABELS", "REFUSED"}}
			for _, p := range peps {
				rows = append(rows, []string{p.Key, p.state(), p.Revision, p.behind(), labelText(p.Labels), p.refused()})
			}
			out := newPrinter(cmd)
			out.table("", rows)
			return out.err
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "`tenant` of their credentials; default all that you may see")
	cmd.Flags().StringVar(&serves, "serves", "", "only those that serve this `tenant`")
	cmd.Flags().StringVar(&labels, "labels", "", "only those with all these `labels`, name=value with commas")
	cmd.Flags().StringVar(&id, "id", "", "only those of this `id`")
	cmd.Flags().BoolVar(&connected, "connected", false, "only those that are connected")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many; 0 for all")
	return cmd
}

func (p *pep) state() string {
	switch {
	case !p.Connected:
		return "away"
	case p.Stale:
		return "stale"
	default:
		return "ok"
	}
}

func (p *pep) behind() string {
	var parts []string
	if p.Lag.Releases > 0 {
		parts = append(parts, strconv.FormatUint(p.Lag.Releases, 10)+"r")
	}
	if p.Lag.Positions > 0 {
		parts = append(parts, strconv.FormatUint(p.Lag.Positions, 10)+"g")
	}
	return strings.Join(parts, " ")
}

// refused is what the PEP refused last, unless it has taken it since.
func (p *pep) refused() string {
	switch {
	case p.Rejected == nil || p.AckedAt.After(p.Rejected.At):
		return ""
	case p.Rejected.Release > 0:
		return fmt.Sprintf("release %d: %s", p.Rejected.Release, p.Rejected.Reason)
	default:
		return fmt.Sprintf("position %d: %s", p.Rejected.Position, p.Rejected.Reason)
	}
}

func labelText(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return strings.Join(pairs, ",")
}

func newPEPsShow() *cobra.Command {
	var at remoteFlags
	cmd := &cobra.Command{
		Use:     "show PEP",
		Short:   "Show one PEP, named by its id or by its key tenant/subject/id",
		Example: "  xiezhi peps show shop-7\n  xiezhi peps show acme/service:shop/shop-7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var p pep
			if err := server.get(cmd.Context(), "/api/v1/peps/"+url.PathEscape(args[0]), nil, &p); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, p)
			}
			out := newPrinter(cmd)
			out.table("", [][]string{
				{"pep", p.Key}, {"state", p.state()}, {"revision", p.Revision}, {"should hold", "release " + strconv.FormatUint(p.Target, 10)},
				{"behind", p.behind()}, {"acknowledged", timeText(p.AckedAt)}, {"refused", p.refused()}, {"serves", strings.Join(p.Tenants, ",")},
				{"labels", labelText(p.Labels)}, {"address", p.Address}, {"node", p.Node}, {"kind", strings.TrimSpace(p.Kind + " " + p.Version)},
				{"connected", timeText(p.ConnectedAt)}, {"last seen", timeText(p.SeenAt)}, {"counts grants until", timeText(p.HonoursUntil)},
			})
			return out.err
		},
	}
	at.register(cmd)
	return cmd
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// selector chooses PEPs, as the server reads it.
type selector struct {
	IDs    []string          `json:"ids,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// parseSelector reads "ring=canary,zone=a" and "shop-1,shop-2": a pair is a
// label, what is no pair an id.
func parseSelector(text string) (selector, error) {
	s := selector{Labels: map[string]string{}}
	for part := range strings.SplitSeq(text, ",") {
		name, value, isLabel := strings.Cut(part, "=")
		_, twice := s.Labels[name]
		switch {
		case name == "" || isLabel && twice:
			return selector{}, fmt.Errorf("%q: want label=value, each label once, or ids, with commas between them", text)
		case isLabel:
			s.Labels[name] = value
		default:
			s.IDs = append(s.IDs, name)
		}
	}
	return s, nil
}

func (s selector) String() string {
	return strings.Join(slices.DeleteFunc([]string{labelText(s.Labels), strings.Join(s.IDs, ",")}, func(t string) bool { return t == "" }), ",")
}
