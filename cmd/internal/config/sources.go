package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// AttributeSource is a program that is asked for attributes.
type AttributeSource struct {
	URL       string `koanf:"url"`
	TokenFile string `koanf:"token_file"` // empty: it asks for none
	CAFile    string `koanf:"ca_file"`    // PEM; empty: the authorities of this machine
	// Timeout bounds one call, TTL is how long an answer is used, Connections
	// how many calls are made at a time; 0: 500ms, 30s, 16.
	Timeout     time.Duration `koanf:"timeout"`
	TTL         time.Duration `koanf:"ttl"`
	Connections int           `koanf:"connections"`
	// AllowInternal lets the URL lead to addresses of this network.
	AllowInternal bool `koanf:"allow_internal"`
}

// reservedSources are the names of what is configured otherwise.
var reservedSources = []string{"directory", "static", "policies"}

var sourceName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

const (
	maxSourceTimeout = 10 * time.Second
	maxSourceTTL     = time.Hour
)

func validateSources(sources map[string]AttributeSource) error {
	var errs []error
	for name, s := range sources {
		at := "sources." + name
		if !sourceName.MatchString(name) || slices.Contains(reservedSources, name) {
			errs = append(errs, fmt.Errorf("sources: %q: want a name such as cmdb, and none of %q", name, reservedSources))
		}
		errs = append(errs, secure(at+".url", s.URL))
		if s.Timeout < 0 || s.Timeout > maxSourceTimeout {
			errs = append(errs, fmt.Errorf("%s: timeout: %s: want at most %s", at, s.Timeout, maxSourceTimeout))
		}
		if s.TTL < 0 || s.TTL > maxSourceTTL {
			errs = append(errs, fmt.Errorf("%s: ttl: %s: want at most %s", at, s.TTL, maxSourceTTL))
		}
		if s.Connections < 0 || s.Connections > 1024 {
			errs = append(errs, fmt.Errorf("%s: connections: %d: want at most 1024", at, s.Connections))
		}
	}
	return errors.Join(errs...)
}
