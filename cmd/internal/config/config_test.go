package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFlagsOverrideTheEnvironmentAndThatTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "xiezhi.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:1\nbudget: 250ms\nlog_level: warn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(file, []string{"XIEZHI_LISTEN=127.0.0.1:2", "XIEZHI_LOG_LEVEL=error", "XIEZHI_TEST_POSTGRES=x", "XIEZHI_SERVER=y", "HOME=/"}, map[string]any{"listen": "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "127.0.0.1:3" || s.LogLevel != "error" || s.Budget != 250*time.Millisecond || s.GrantCeiling != 24*time.Hour {
		t.Errorf("%+v", s)
	}
}

func TestStartIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file, environ string
		flags         map[string]any
		want          string
	}{
		"an unknown key in the file":            {file: "lisen: 127.0.0.1:1", want: "lisen"},
		"an unknown variable":                   {environ: "XIEZHI_LISEN=x", want: "lisen"},
		"plain HTTP beyond loopback":            {flags: map[string]any{"listen": "0.0.0.0:8080"}, want: "not loopback"},
		"plain HTTP on all addresses":           {flags: map[string]any{"listen": ":8080"}, want: "not loopback"},
		"a certificate without its key":         {flags: map[string]any{"tls_cert": "c.pem"}, want: "both or neither"},
		"a password in the database's URL":      {flags: map[string]any{"database_url": "postgres://u:secret@h/d"}, want: "database_url_file"},
		"a database's URL that is not one":      {flags: map[string]any{"database_url": "postgres://u:se cret@h/d"}, want: "database_url"},
		"two databases":                         {flags: map[string]any{"database_url": "postgres://h/d", "database_url_file": "f"}, want: "give one"},
		"a public URL that ends in a slash":     {flags: map[string]any{"public_url": "https://h.example/"}, want: "public_url"},
		"a public URL with a password":          {flags: map[string]any{"public_url": "https://u:p@h.example"}, want: "public_url"},
		"a public URL of nobody":                {flags: map[string]any{"public_url": "h.example"}, want: "public_url"},
		"a profile of another version":          {flags: map[string]any{"arap_version": "1.0"}, want: "draft-1 or off"},
		"a budget of nothing":                   {flags: map[string]any{"budget": "0s"}, want: "budget"},
		"a budget that is no duration":          {flags: map[string]any{"budget": "soon"}, want: "budget"},
		"a Rego engine that is none":            {flags: map[string]any{"rego_engine": "wasm"}, want: "compiled, topdown, both"},
		"a spool without room":                  {flags: map[string]any{"spool_max_bytes": 10}, want: "spool_max_bytes"},
		"a password in the policies' URL":       {flags: map[string]any{"policies": "git+https://u:secret@h/r@main"}, want: "policies_token_file"},
		"policies that are not git":             {flags: map[string]any{"policies": "/srv/policies"}, want: "git+https"},
		"a poll without a pause":                {flags: map[string]any{"policies": "git+https://h/r@main", "policies_poll": "10ms"}, want: "policies_poll"},
		"signers of nothing":                    {flags: map[string]any{"policies_signers": "keys.asc"}, want: "policies_signers"},
		"a source that is nobody":               {flags: map[string]any{"policies": "git+https://h/r@main", "policies_subject": "git"}, want: "policies_subject"},
		"a status token for nobody":             {flags: map[string]any{"policies": "git+https://h/r@main", "policies_status_token_file": "t"}, want: "policies_status_url"},
		"a stream in the clear beyond loopback": {flags: map[string]any{"stream_listen": ":8081"}, want: "stream_listen"},
		"a stream's URL that is none":           {flags: map[string]any{"stream_url": "https://h"}, want: "stream_url"},
		"a stream's URL in the clear":           {flags: map[string]any{"stream_url": "ws://h.example"}, want: "in the clear"},
		"client certificates without TLS":       {flags: map[string]any{"stream_client_ca": "ca.pem"}, want: "tls_cert"},
		"fewer PEPs than none":                  {flags: map[string]any{"peps_per_tenant": -1}, want: "peps_per_tenant"},
		"a tenant that may be more than all":    {flags: map[string]any{"stream_connections": 10, "stream_per_tenant": 11}, want: "stream_per_tenant"},
		"less than no connections":              {flags: map[string]any{"stream_connections": -1}, want: "stream_connections"},
		"grants that outlive the most":          {flags: map[string]any{"grant_stale": "31s"}, want: "grant_stale"},
		"grants that never count":               {flags: map[string]any{"grant_stale": "0s"}, want: "grant_stale"},
		"policies that are trusted for no time": {flags: map[string]any{"stale_bound": "0s"}, want: "stale_bound"},
		"an address that is none":               {flags: map[string]any{"listen": "8080"}, want: "host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(file, []string{c.environ}, c.flags)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that names %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") || err != nil && strings.Contains(err.Error(), "se cret") {
				t.Errorf("the error repeats the password: %v", err)
			}
		})
	}
}

func TestDatabaseURLComesFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("postgres://u:secret@h/d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Defaults()
	s.DatabaseURLFile = file
	if got, err := s.Database(); err != nil || got != "postgres://u:secret@h/d" {
		t.Errorf("%q, %v", got, err)
	}
	s.DatabaseURLFile = file + ".missing"
	if _, err := s.Database(); err == nil {
		t.Error("a file that is not there passes")
	}
}
