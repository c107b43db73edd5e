package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// publishFirst publishes the policy folder as it is found. A folder that does
// not compile is an error only where nothing is published yet.
func (s *session) publishFirst(ctx context.Context) error {
	err := s.publish(ctx)
	if err != nil && s.node.PDP.Active() != nil {
		fmt.Fprintf(s.Out, "not published: %s\nThe release before stays active.\n", s.indent(err))
		return nil
	}
	return err
}

// publish publishes the folder if it differs from the newest release.
func (s *session) publish(ctx context.Context) error {
	next, err := s.read()
	if err != nil {
		return err
	}
	before, err := s.node.PAP.NewestContent(ctx)
	if err != nil {
		return err
	}
	release, revision, err := s.node.PAP.PublishContent(ctx, s.actor, next, "saved in "+s.Policies, true)
	if errors.Is(err, pap.ErrNothingToPublish) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s published as release %d (unreviewed), revision %s: %s\n",
		s.node.PAP.Now().Format(time.TimeOnly), release.Number, revision, summary(before, before.Diff(next)))
	return nil
}

func (s *session) read() (*bundles.Content, error) {
	if s.Policies == "" {
		return s.Shipped, nil
	}
	return engine.ReadFolder(s.Policies)
}

// summary names what changed; long lists are counted.
func summary(before *bundles.Content, changes []bundles.Change) string {
	const most = 6
	if len(before.Files()) == 0 {
		return fmt.Sprintf("%d files", len(changes))
	}
	var parts []string
	for i, c := range changes {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(changes)-most))
			break
		}
		if c.Removed {
			parts = append(parts, "removed "+c.Path)
		} else {
			parts = append(parts, c.Path)
		}
	}
	return strings.Join(parts, ", ")
}

// settle is how long the folder must be quiet before it is read: editors write
// a file in several steps.
const settle = 60 * time.Millisecond

// watch publishes on save until ctx ends.
func (s *session) watch(ctx context.Context) error {
	if s.Policies == "" {
		<-ctx.Done()
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.Policies, err)
	}
	defer watcher.Close() //nolint:errcheck // nothing was written through it
	if err := watchFolders(watcher, s.Policies); err != nil {
		return fmt.Errorf("watch %s: %w", s.Policies, err)
	}
	quiet := time.NewTimer(settle) // once at the start: the folder may have changed since it was published
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			s.Log.Warn("watching the policy folder", "error", err)
			quiet.Reset(settle)
		case event := <-watcher.Events:
			if info, err := os.Stat(event.Name); err == nil && info.IsDir() {
				if err := watchFolders(watcher, event.Name); err != nil {
					s.Log.Warn("watching a new folder", "error", err)
				}
			}
			quiet.Reset(settle)
		case <-quiet.C:
			if err := s.publish(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintf(s.Out, "%s not published, release %d stays active:\n%s\n",
					s.node.PAP.Now().Format(time.TimeOnly), s.node.PDP.Active().Release.Number, s.indent(err))
			}
		}
	}
}

func watchFolders(watcher *fsnotify.Watcher, root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		return watcher.Add(path)
	})
}

// indent writes an error for the terminal; files of faults can be opened from
// where dev runs.
func (s *session) indent(err error) string {
	var faults pdp.Faults
	if errors.As(err, &faults) && s.Policies != "" {
		located := slices.Clone(faults)
		for i := range located {
			located[i].File = filepath.Join(s.Policies, filepath.FromSlash(located[i].File))
		}
		err = located
	}
	return "  " + strings.ReplaceAll(err.Error(), "\n", "\n  ")
}
