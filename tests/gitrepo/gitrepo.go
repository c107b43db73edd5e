// Package gitrepo makes git repositories for tests: a working copy to commit
// in, and a bare repository that it is pushed to, as a folder or over HTTP. It
// needs no git on the machine.
package gitrepo

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Author and Email are who commits.
const (
	Author = "Li Wei"
	Email  = "li.wei@example.com"
)

// Repository is a working copy and what is pushed from it: the branch main.
type Repository struct {
	t   testing.TB
	git *git.Repository

	Dir    string // of the working copy
	Remote string // of the bare repository
	// Sign signs a commit's bytes, "" or nil for commits without a signature.
	Sign func(payload []byte) string
}

// New makes an empty one.
func New(t testing.TB) *Repository {
	t.Helper()
	r := &Repository{t: t, Dir: t.TempDir(), Remote: t.TempDir()}
	options := git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")}
	_, err := git.PlainInitWithOptions(r.Remote, &git.PlainInitOptions{Bare: true, InitOptions: options})
	r.must(err)
	r.git, err = git.PlainInitWithOptions(r.Dir, &git.PlainInitOptions{InitOptions: options})
	r.must(err)
	return r
}

func (r *Repository) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// Write writes a file of the working copy.
func (r *Repository) Write(path, text string) {
	r.t.Helper()
	path = filepath.Join(r.Dir, filepath.FromSlash(path))
	r.must(os.MkdirAll(filepath.Dir(path), 0o700))
	r.must(os.WriteFile(path, []byte(text), 0o600))
}

// Remove removes a file of the working copy.
func (r *Repository) Remove(path string) {
	r.t.Helper()
	r.must(os.Remove(filepath.Join(r.Dir, filepath.FromSlash(path))))
}

// Commit commits everything, also where nothing changed, and returns its id.
func (r *Repository) Commit(message string) string {
	r.t.Helper()
	tree, err := r.git.Worktree()
	r.must(err)
	r.must(tree.AddWithOptions(&git.AddOptions{All: true}))
	id, err := tree.Commit(message, &git.CommitOptions{
		Author: &object.Signature{Name: Author, Email: Email, When: time.Now()}, AllowEmptyCommits: true,
	})
	r.must(err)
	if r.Sign != nil {
		id = r.signed(id)
	}
	return id.String()
}

// signed puts a signature into the newest commit.
func (r *Repository) signed(id plumbing.Hash) plumbing.Hash {
	r.t.Helper()
	commit, err := r.git.CommitObject(id)
	r.must(err)
	bare := r.git.Storer.NewEncodedObject()
	r.must(commit.EncodeWithoutSignature(bare))
	reader, err := bare.Reader()
	r.must(err)
	payload := make([]byte, bare.Size())
	_, err = reader.Read(payload)
	r.must(err)
	if commit.PGPSignature = r.Sign(payload); commit.PGPSignature == "" {
		return id
	}
	whole := r.git.Storer.NewEncodedObject()
	r.must(commit.Encode(whole))
	id, err = r.git.Storer.SetEncodedObject(whole)
	r.must(err)
	r.must(r.git.Storer.SetReference(plumbing.NewHashReference(plumbing.NewBranchReferenceName("main"), id)))
	return id
}

// Raw stores a commit of the newest tree whose entries change edits, for what
// a working copy cannot hold, and moves main to it.
func (r *Repository) Raw(change func(entries []object.TreeEntry) []object.TreeEntry) string {
	r.t.Helper()
	head, err := r.git.Head()
	r.must(err)
	parent, err := r.git.CommitObject(head.Hash())
	r.must(err)
	tree, err := parent.Tree()
	r.must(err)
	encoded := r.git.Storer.NewEncodedObject()
	r.must((&object.Tree{Entries: change(tree.Entries)}).Encode(encoded))
	root, err := r.git.Storer.SetEncodedObject(encoded)
	r.must(err)
	commit := object.Commit{Author: parent.Author, Committer: parent.Author, Message: "raw", TreeHash: root, ParentHashes: []plumbing.Hash{parent.Hash}}
	encoded = r.git.Storer.NewEncodedObject()
	r.must(commit.Encode(encoded))
	id, err := r.git.Storer.SetEncodedObject(encoded)
	r.must(err)
	r.must(r.git.Storer.SetReference(plumbing.NewHashReference(plumbing.NewBranchReferenceName("main"), id)))
	return id.String()
}

// Push sends main to the bare repository, by force.
func (r *Repository) Push() {
	r.t.Helper()
	remote := git.NewRemote(r.git.Storer, &gitconfig.RemoteConfig{Name: "origin", URLs: []string{r.Remote}})
	err := remote.Push(&git.PushOptions{RefSpecs: []gitconfig.RefSpec{"+refs/heads/main:refs/heads/main"}})
	if !errors.Is(err, git.NoErrAlreadyUpToDate) {
		r.must(err)
	}
}

// Reset moves main and the working copy to an older commit.
func (r *Repository) Reset(id string) {
	r.t.Helper()
	tree, err := r.git.Worktree()
	r.must(err)
	r.must(tree.Reset(&git.ResetOptions{Commit: plumbing.NewHash(id), Mode: git.HardReset}))
}
