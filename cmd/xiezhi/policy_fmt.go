package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
)

func newPolicyFmt() *cobra.Command {
	var folder policyFolder
	var write, check bool
	cmd := &cobra.Command{
		Use:   "fmt [path...]",
		Short: "Format Rego and Cedar policies",
		Long: `Fmt formats the named files and folders, or the whole policy folder. Without -w
it prints the names of files that are not formatted. Rule documents, test cases
and other YAML and JSON are left as they are.`,
		Example: "  xiezhi policy fmt -w\n  xiezhi policy fmt --check policies/platform",
		RunE: func(cmd *cobra.Command, paths []string) error {
			if len(paths) == 0 {
				if err := folder.find(); err != nil {
					return err
				}
				if folder.dir == "" {
					return errors.New("there is no ./policies: name a folder or files")
				}
				paths = []string{folder.dir}
			}
			return formatPolicies(cmd, paths, write, check)
		},
	}
	cmd.Flags().StringVar(&folder.dir, "policies", "", "policy `folder` (default ./policies)")
	cmd.Flags().BoolVarP(&write, "write", "w", false, "write the files back")
	cmd.Flags().BoolVar(&check, "check", false, "end with 4 where a file is not formatted")
	cmd.MarkFlagsMutuallyExclusive("write", "check")
	return cmd
}

// formatted is the result of `policy fmt`: the files that were not formatted.
type formatted struct {
	Files   []string `json:"files"`
	Written bool     `json:"written"`
}

func formatPolicies(cmd *cobra.Command, paths []string, write, check bool) error {
	files, err := formattable(paths)
	if err != nil {
		return err
	}
	result := formatted{Files: []string{}, Written: write}
	var failed []error
	for _, file := range files {
		changed, err := formatFile(file, write)
		if err != nil {
			failed = append(failed, err)
		} else if changed {
			result.Files = append(result.Files, file)
		}
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd, result)
	} else {
		out := newPrinter(cmd)
		for _, file := range result.Files {
			out.line("%s", file)
		}
		err = out.err
	}
	switch {
	case err != nil:
		return err
	case len(failed) > 0:
		return errors.Join(failed...)
	case check && len(result.Files) > 0:
		return exit(exitFaults)
	}
	return nil
}

// formattable finds the files that a formatter knows at and below the paths.
func formattable(paths []string) ([]string, error) {
	var files []string
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			hidden := path != root && strings.HasPrefix(entry.Name(), ".")
			switch {
			case err != nil:
				return fmt.Errorf("read %s: %w", path, unwrapPath(err))
			case entry.IsDir() && hidden:
				return filepath.SkipDir
			case entry.Type().IsRegular() && !hidden && engine.Formats(path):
				files = append(files, path)
			case path == root && !entry.IsDir():
				return fmt.Errorf("%s: no formatter knows this file: want .rego, .cedar or .cedarschema", path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// formatFile reports whether the file is not formatted; with write it is then.
func formatFile(file string, write bool) (changed bool, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", file, unwrapPath(err))
	}
	pretty, err := engine.Format(filepath.ToSlash(file), data)
	if err != nil {
		return false, err
	}
	if bytes.Equal(pretty, data) {
		return false, nil
	}
	if write {
		err = replaceFile(file, pretty)
	}
	return true, err
}

// replaceFile puts the whole new content in the file's place, or leaves it.
func replaceFile(file string, data []byte) (err error) {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(file), ".xiezhi-fmt-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", file, err)
			_ = os.Remove(next.Name()) // the first error says what matters
		}
	}()
	_, err = next.Write(data)
	if err = errors.Join(err, next.Chmod(info.Mode().Perm()), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), file)
}
