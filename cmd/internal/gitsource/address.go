package gitsource

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// Address says which folder of which branch of which repository.
type Address struct {
	Remote string // "https://host/repo.git", "file:///srv/policies.git"
	Branch string // "" is the remote's HEAD
	Folder string // "" is the whole tree
}

// ParseAddress reads git+https://host/repo@branch#folder or
// git+file:///path@branch#folder. A credential in it is refused, and not
// repeated in the error; plain HTTP is for loopback only.
func ParseAddress(text string) (Address, error) {
	const want = "want git+https://host/repository@branch#folder or git+file:///path@branch#folder"
	rest, ok := strings.CutPrefix(text, "git+")
	if !ok {
		return Address{}, fmt.Errorf("policies: %s", want)
	}
	u, err := url.Parse(rest)
	if err != nil {
		return Address{}, fmt.Errorf("policies: not a URL; %s", want) // the parser's error would repeat it
	}
	if u.User != nil {
		return Address{}, fmt.Errorf("policies: the address holds a user or password; put the token into a file and name it in policies_token_file")
	}
	repository, branch, named := cutLast(u.Path, "@")
	a := Address{Branch: branch, Folder: strings.Trim(u.Fragment, "/")}
	switch {
	case u.RawQuery != "" || u.Opaque != "" || repository == "" || repository == "/":
		return Address{}, fmt.Errorf("policies: %s", want)
	case named && !validBranch(branch):
		return Address{}, fmt.Errorf("policies: branch %q is no branch's name", branch)
	case a.Folder != "" && bundles.ValidPath(a.Folder) != nil:
		return Address{}, fmt.Errorf("policies: folder %q: want a clean path inside the repository", a.Folder)
	}
	switch u.Scheme {
	case "https":
	case "http":
		if host := u.Hostname(); host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return Address{}, fmt.Errorf("policies: plain HTTP to %s: anybody between could change the policies; use git+https", host)
		}
	case "file":
		if u.Host != "" || !path.IsAbs(repository) {
			return Address{}, fmt.Errorf("policies: want git+file:///absolute/path@branch")
		}
	default:
		return Address{}, fmt.Errorf("policies: git+%s is not served; %s", u.Scheme, want)
	}
	if u.Scheme != "file" && u.Host == "" {
		return Address{}, fmt.Errorf("policies: %s", want)
	}
	a.Remote = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: repository}).String()
	return a, nil
}

// String is the address's one form; releases carry it as their source.
func (a Address) String() string {
	text := "git+" + a.Remote
	if a.Branch != "" {
		text += "@" + a.Branch
	}
	if a.Folder != "" {
		text += "#" + a.Folder
	}
	return text
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// validBranch holds a name to git-check-ref-format(1), as far as it matters here.
func validBranch(name string) bool {
	if name == "" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") ||
		strings.HasSuffix(name, ".lock") || strings.Contains(name, "..") || strings.Contains(name, "//") {
		return false
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) {
			return false
		}
	}
	return true
}
