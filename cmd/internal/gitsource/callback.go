package gitsource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// States of a report, as GitHub and Gitea name them.
const (
	statePending = "pending"
	stateSuccess = "success"
	stateFailure = "failure"
)

// report is a commit status: GitHub's, Gitea's and Forgejo's members, and ours
// beside them.
type report struct {
	Commit      string            `json:"commit"`
	State       string            `json:"state"`
	Description string            `json:"description"`
	TargetURL   string            `json:"target_url,omitempty"`
	Context     string            `json:"context"`
	Faults      []pap.SourceFault `json:"faults,omitempty"`
}

const (
	reportTimeout  = 10 * time.Second
	reportTries    = 4
	reportPause    = time.Second // doubled with each try
	maxDescription = 140         // GitHub's limit, in characters
	maxReports     = 16          // that wait; of more the oldest is lost
)

// notifier sends reports in order, apart from publishing: a git host that is
// slow or away holds nothing up.
type notifier struct {
	target, tokenFile, more string
	client                  *http.Client
	log                     *slog.Logger
	queue                   chan report
	pause                   time.Duration // after the first try that failed
	lost                    atomic.Uint64
}

// newNotifier refuses a URL that would send the token in the clear.
func newNotifier(c Config) (*notifier, error) {
	n := &notifier{target: c.StatusURL, tokenFile: c.StatusTokenFile, more: c.TargetURL, log: c.Log, queue: make(chan report, maxReports), pause: reportPause}
	n.client = &http.Client{Timeout: reportTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.StatusURL == "" {
		return n, nil
	}
	u, err := url.Parse(strings.ReplaceAll(c.StatusURL, "{commit}", "0"))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("policies_status_url: want https://host/path, in which {commit} is filled")
	case u.User != nil:
		return nil, errors.New("policies_status_url: holds a user or password; put the token into a file and name it in policies_status_token_file")
	case u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
		return nil, fmt.Errorf("policies_status_url: plain HTTP to %s; use https", u.Hostname())
	}
	return n, nil
}

// tell queues a report; it never waits.
func (n *notifier) tell(r report) {
	if n.target == "" {
		return
	}
	r.Context, r.TargetURL, r.Description = "xiezhi", n.more, printable(r.Description, maxDescription)
	for {
		select {
		case n.queue <- r:
			return
		default:
		}
		select {
		case <-n.queue:
			n.lost.Add(1)
		default:
		}
	}
}

// run sends until ctx ends.
func (n *notifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-n.queue:
			if err := n.deliver(ctx, r); err != nil {
				n.lost.Add(1)
				n.log.Warn("the status of a commit could not be reported", "commit", r.Commit, "state", r.State, "error", err)
			}
		}
	}
}

func (n *notifier) deliver(ctx context.Context, r report) error {
	pause := n.pause
	for try := 1; ; try++ {
		again, err := n.send(ctx, r)
		if err == nil || !again || try == reportTries {
			return err
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause *= 2
	}
}

// send posts a report once, and says whether trying again could help.
func (n *notifier) send(ctx context.Context, r report) (again bool, err error) {
	target := strings.ReplaceAll(n.target, "{commit}", r.Commit)
	if strings.Contains(target, "/api/v4/projects/") && r.State == stateFailure {
		r.State = "failed" // GitLab's word
	}
	body, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "xiezhi")
	if n.tokenFile != "" {
		token, err := readSecret("policies_status_token_file", n.tokenFile)
		if err != nil {
			return true, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := n.client.Do(request)
	if err != nil {
		return true, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorBody))
	err = errors.Join(err, response.Body.Close())
	if response.StatusCode < 200 || response.StatusCode > 299 {
		again = response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests
		return again, fmt.Errorf("%s answered %s", request.URL.Host, response.Status)
	}
	return false, err
}
