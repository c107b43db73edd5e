package httpd

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// ErrUnavailable means that a stand-in has no answer, as the server that would
// give it cannot be asked.
var ErrUnavailable = errors.New("the server cannot be asked for this decision")

// RightStatus is the right to read the status of a stand-in.
const RightStatus = "status.read"

// sidecarOperations are the doors that a stand-in has in common with a server.
var sidecarOperations = []string{
	"decide", "decideBatch", "authzenEvaluation", "authzenEvaluations",
	"health", "readiness", "authzenConfiguration", "openapi", "metrics",
}

// SidecarRoutes is the table of a stand-in for a server: the decision doors,
// and the status of what decides, which encoding/json writes.
func SidecarRoutes(status func() any) []Route {
	routes := slices.DeleteFunc(Routes(), func(r Route) bool { return !slices.Contains(sidecarOperations, r.Operation) })
	return append(routes, Route{
		Method: http.MethodGet, Path: "/status", Operation: "status", Rights: []string{RightStatus},
		Summary: "What decides here knows of itself: connection, revision, freshness, records",
		Status:  http.StatusOK, Answer: "Object",
		handle: func(c *call) error {
			if err := c.allow(RightStatus, ""); err != nil {
				return err
			}
			return c.answer(http.StatusOK, status())
		},
	})
}

var errNotLocal = &parameterError{Name: "Host", Detail: "this door answers to localhost and loopback addresses only"}

// localName reports whether a Host names this machine. A web page whose own
// name was made to lead here would name itself.
func localName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return ip != nil && ip.IsLoopback()
}
