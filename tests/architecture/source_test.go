package architecture

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// maxLines is the length past which a file no longer reads in one go.
const maxLines = 600

// leftOpen finds notes of unfinished work; spelt so that it does not find itself.
var leftOpen = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// checkSources returns what is wrong in the Go files below the root, one line
// each, beginning with file:line.
func checkSources(root fs.FS) ([]string, error) {
	var faults []string
	err := fs.WalkDir(root, ".", func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			hidden := strings.HasPrefix(path.Base(p), ".") && p != "."
			if hidden || p == "bin" || path.Base(p) == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		data, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		faults = append(faults, checkFile(p, data)...)
		return nil
	})
	return faults, err
}

func checkFile(name string, data []byte) []string {
	var faults []string
	if n := bytes.Count(data, []byte("\n")); n > maxLines {
		faults = append(faults, fmt.Sprintf("%s:%d: a file has at most %d lines; is there a second noun in it?", name, n, maxLines))
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if found := leftOpen.Find(line); found != nil {
			faults = append(faults, fmt.Sprintf("%s:%d: %s: finish it, or leave it out", name, i+1, found))
		}
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, data, parser.SkipObjectResolution)
	if err != nil {
		return append(faults, err.Error())
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			faults = append(faults, fmt.Sprintf("%s: no init: main builds everything in reading order", files.Position(f.Pos())))
		}
	}
	return faults
}
