package serve

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq/webhook"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/pip"
)

// httpSources are the programs that are asked for attributes, by name.
type httpSources map[string]*pip.HTTP

// openHTTPSources opens those that are configured. None is asked yet.
func openHTTPSources(c config.Server, log *slog.Logger) (httpSources, error) {
	all := httpSources{}
	for name, s := range c.Sources {
		source, err := openHTTPSource(name, s, log)
		if err != nil {
			all.close()
			return nil, fmt.Errorf("sources.%s: %w", name, err)
		}
		all[name] = source
	}
	return all, nil
}

func openHTTPSource(name string, s config.AttributeSource, log *slog.Logger) (*pip.HTTP, error) {
	c := pip.HTTPConfig{
		Name: name, URL: s.URL, Dialable: webhook.Public, Timeout: s.Timeout, TTL: s.TTL, Connections: s.Connections, Now: time.Now, Log: log,
	}
	if s.AllowInternal {
		c.Dialable = func(string) error { return nil }
	}
	if s.TokenFile != "" {
		c.Token = func() (string, error) { return config.Secret(s.TokenFile) }
		if _, err := c.Token(); err != nil {
			return nil, fmt.Errorf("token_file: %w", err)
		}
	}
	if s.CAFile != "" {
		data, err := os.ReadFile(filepath.Clean(s.CAFile))
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("ca_file: %s: want certificates in PEM", s.CAFile)
		}
	}
	return pip.NewHTTP(c)
}

func (all httpSources) close() {
	for _, source := range all {
		source.Close()
	}
}

// add puts the sources beside others.
func (all httpSources) add(sources map[string]pdp.AttributeSource) {
	for name, source := range all {
		sources[name] = source
	}
}

// drops are how the sources forget what they were answered, by name.
func (all httpSources) drops() map[string]func() {
	drops := map[string]func(){}
	for name, source := range all {
		drops[name] = source.Drop
	}
	return drops
}
