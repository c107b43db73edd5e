package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxCommit bounds a commit object, in bytes.
const maxCommit = 1 << 20

// commit is a commit object, parsed from its bytes: a signature covers these
// bytes, so nothing is taken from a form that was written anew.
type commit struct {
	id        plumbing.Hash
	tree      plumbing.Hash
	parents   []plumbing.Hash
	author    string // "Li Wei <li.wei@example.com>"
	message   string
	signature string // armored, "" where there is none
	payload   []byte // what the signature covers
}

// summary is the message's first line.
func (c *commit) summary() string {
	first, _, _ := strings.Cut(c.message, "\n")
	return printable(first, 200)
}

func (c *commit) short() string { return c.id.String()[:12] }

func readCommit(store objects, id plumbing.Hash) (*commit, error) {
	size, err := store.EncodedObjectSize(id)
	if err != nil {
		return nil, fmt.Errorf("%w: read commit %s: %w", errCache, id, err)
	}
	if size > maxCommit {
		return nil, refuse("", "commit %s is over %d bytes", id, maxCommit)
	}
	raw, err := readObject(store, plumbing.CommitObject, id, size)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, refuse("", "%s is not a commit", id)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read commit %s: %w", errCache, id, err)
	}
	c, err := parseCommit(raw)
	if err != nil {
		return nil, refuse("", "commit %s: %v", id, err)
	}
	c.id = id
	return c, nil
}

// parseCommit reads a commit object strictly: one tree first, then parents,
// author and committer, each line of the header at most once but parents. What
// could be read in two ways is refused.
func parseCommit(raw []byte) (*commit, error) {
	header, message, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		if header, ok = bytes.CutSuffix(raw, []byte("\n")); !ok {
			return nil, errors.New("the header has no end")
		}
	}
	c := &commit{message: string(message)}
	seen := map[string]bool{}
	var payload bytes.Buffer
	lines := strings.Split(string(header), "\n")
	for i := 0; i < len(lines); {
		name, value, ok := strings.Cut(lines[i], " ")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d of the header is malformed", i+1)
		}
		from := i
		for i++; i < len(lines) && strings.HasPrefix(lines[i], " "); i++ {
			value += "\n" + lines[i][1:]
		}
		if seen[name] && name != "parent" && name != "mergetag" {
			return nil, fmt.Errorf("two lines %q in the header", name)
		}
		if (from == 0) != (name == "tree") {
			return nil, errors.New("the header does not begin with its one tree")
		}
		seen[name] = true
		if err := c.take(name, value); err != nil {
			return nil, err
		}
		if name != "gpgsig" {
			payload.WriteString(strings.Join(lines[from:i], "\n") + "\n")
		}
	}
	if !seen["author"] || !seen["committer"] {
		return nil, errors.New("it names no author or committer")
	}
	payload.Write(raw[len(header)+min(1, len(raw)-len(header)):])
	c.payload = payload.Bytes()
	return c, nil
}

func (c *commit) take(name, value string) error {
	switch name {
	case "tree", "parent":
		if !plumbing.IsHash(value) || len(value) != 40 {
			return fmt.Errorf("%s %q: want 40 hexadecimal digits", name, value)
		}
		if name == "tree" {
			c.tree = plumbing.NewHash(value)
		} else {
			c.parents = append(c.parents, plumbing.NewHash(value))
		}
	case "author":
		end := strings.LastIndex(value, ">")
		if end < 0 {
			return errors.New("the author has no address")
		}
		c.author = printable(value[:end+1], 250)
	case "gpgsig":
		c.signature = value
	case "gpgsig-sha256":
		return errors.New("it is signed for SHA-256 repositories, which are not read")
	}
	return nil
}

// printable makes text of others fit for a log, a release and a terminal.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD"))
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit-1]) + "…"
	}
	return s
}

// descends reports whether head is last or has it among its ancestors.
func descends(ctx context.Context, store objects, head, last plumbing.Hash) (bool, error) {
	seen := map[plumbing.Hash]bool{head: true}
	for next := []plumbing.Hash{head}; len(next) > 0; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		var parents []plumbing.Hash
		for _, id := range next {
			if id == last {
				return true, nil
			}
			c, err := readCommit(store, id)
			if err != nil {
				return false, err
			}
			for _, p := range c.parents {
				if !seen[p] {
					seen[p] = true
					parents = append(parents, p)
				}
			}
		}
		next = parents
	}
	return false, nil
}
