package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// maxTree bounds one folder's listing, in bytes.
const maxTree = 16 << 20

// refusal is what is wrong with a commit itself: trying again will not help.
type refusal struct {
	file   string // "" where the whole commit is meant
	reason string
}

func (r *refusal) Error() string {
	if r.file == "" {
		return r.reason
	}
	return r.file + ": " + r.reason
}

func refuse(file, format string, args ...any) error {
	return &refusal{file, fmt.Sprintf(format, args...)}
}

// objects is what reading a commit needs of the bare repository.
type objects interface {
	storer.EncodedObjectStorer
	EncodedObjectSize(plumbing.Hash) (int64, error)
}

// treeReader reads the files of one tree, within the limits of a release.
type treeReader struct {
	ctx   context.Context
	store objects
	files []bundles.File
	total int64
	trees int
}

// readTree reads the files below folder ("" for all) of a tree, from the
// objects. It leaves out what a policy folder leaves out, hidden files and Go
// files at the top, and refuses links and submodules.
func readTree(ctx context.Context, store objects, root plumbing.Hash, folder string) (*bundles.Content, error) {
	r := treeReader{ctx: ctx, store: store}
	if folder != "" {
		for step := range strings.SplitSeq(folder, "/") {
			tree, err := r.tree(root, folder)
			if err != nil {
				return nil, err
			}
			entry, err := tree.FindEntry(step)
			if err != nil || entry.Mode != filemode.Dir {
				return nil, refuse("", "the commit has no folder %s", folder)
			}
			root = entry.Hash
		}
	}
	if err := r.walk(root, ""); err != nil {
		return nil, err
	}
	content, err := bundles.NewContent(r.files)
	if err != nil {
		return nil, refuse("", "%v", err)
	}
	return content, nil
}

func (r *treeReader) walk(hash plumbing.Hash, dir string) error {
	tree, err := r.tree(hash, dir)
	if err != nil {
		return err
	}
	for _, entry := range tree.Entries {
		p := path.Join(dir, entry.Name)
		switch {
		case strings.HasPrefix(entry.Name, "."):
			if entry.Name == "." || entry.Name == ".." {
				return refuse(dir, "a name that leaves the folder")
			}
			continue
		case strings.Contains(entry.Name, "/") || bundles.ValidPath(p) != nil:
			return refuse(fmt.Sprintf("%.600q", p), "not a clean relative path of at most 512 bytes")
		case dir == "" && path.Ext(p) == ".go" && entry.Mode.IsFile():
			continue
		}
		switch entry.Mode {
		case filemode.Dir:
			err = r.walk(entry.Hash, p)
		case filemode.Regular, filemode.Executable, filemode.Deprecated:
			err = r.file(entry.Hash, p)
		case filemode.Symlink:
			err = refuse(p, "is a link; only regular files can be part of a release")
		case filemode.Submodule:
			err = refuse(p, "is a submodule; only regular files can be part of a release")
		default:
			err = refuse(p, "has mode %s; only regular files can be part of a release", entry.Mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *treeReader) tree(hash plumbing.Hash, dir string) (*object.Tree, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if r.trees++; r.trees > bundles.MaxFiles {
		return nil, refuse("", "more than %d folders", bundles.MaxFiles)
	}
	size, err := r.store.EncodedObjectSize(hash)
	if err != nil {
		return nil, fmt.Errorf("%w: read folder %q: %w", errCache, dir, err)
	}
	if size > maxTree {
		return nil, refuse(dir, "the folder's listing is over %d bytes", maxTree)
	}
	tree, err := object.GetTree(r.store, hash)
	if err != nil {
		return nil, fmt.Errorf("%w: read folder %q: %w", errCache, dir, err)
	}
	return tree, nil
}

func (r *treeReader) file(hash plumbing.Hash, p string) error {
	if len(r.files) == bundles.MaxFiles {
		return refuse("", "more than %d files", bundles.MaxFiles)
	}
	size, err := r.store.EncodedObjectSize(hash)
	if err != nil {
		return fmt.Errorf("%w: read %s: %w", errCache, p, err)
	}
	if r.total += size; size > bundles.MaxFileBytes || r.total > bundles.MaxBytes {
		return refuse(p, "too large for a release: a file holds at most %d bytes, all together %d", bundles.MaxFileBytes, bundles.MaxBytes)
	}
	data, err := readObject(r.store, plumbing.BlobObject, hash, size)
	if err != nil {
		return fmt.Errorf("%w: read %s: %w", errCache, p, err)
	}
	r.files = append(r.files, bundles.File{Path: p, Data: data})
	return nil
}

// readObject reads one object of a known size whole.
func readObject(store objects, kind plumbing.ObjectType, hash plumbing.Hash, size int64) (data []byte, err error) {
	encoded, err := store.EncodedObject(kind, hash)
	if err != nil {
		return nil, err
	}
	reader, err := encoded.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	data = make([]byte, size)
	_, err = io.ReadFull(reader, data)
	return data, err
}
