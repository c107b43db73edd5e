package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
)

func TestAttributeSourcesAreReadAndChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "xiezhi.yaml")
	for _, row := range []struct{ text, refused string }{
		{"sources: {cmdb: {url: https://cmdb.example/attributes, token_file: t, timeout: 300ms, ttl: 1m, allow_internal: true}}", ""},
		{"sources: {cmdb: {url: 'http://127.0.0.1:8000/'}}", ""},
		{"sources: {cmdb: {url: 'http://cmdb.example/'}}", "in the clear"},
		{"sources: {cmdb: {token_file: t}}", "sources.cmdb.url"},
		{"sources: {cmdb: {url: 'https://u:p@cmdb.example'}}", "without a user"},
		{"sources: {cmdb: {url: https://cmdb.example, retries: 3}}", "retries"},
		{"sources: {cmdb: {url: https://cmdb.example, timeout: 11s}}", "timeout"},
		{"sources: {cmdb: {url: https://cmdb.example, ttl: 2h}}", "ttl"},
		{"sources: {cmdb: {url: https://cmdb.example, connections: -1}}", "connections"},
		{"sources: {static: {url: https://cmdb.example}}", "static"},
		{"sources: {CMDB: {url: https://cmdb.example}}", "CMDB"},
	} {
		if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(file, nil, nil)
		if (err == nil) != (row.refused == "") || err != nil && (!strings.Contains(err.Error(), row.refused) || strings.Contains(err.Error(), "u:p")) {
			t.Errorf("%s: %v, want %q", row.text, err, row.refused)
		}
		if s := c.Sources["cmdb"]; strings.Contains(row.text, "300ms") && (s.Timeout != 300*time.Millisecond || s.TTL != time.Minute || !s.AllowInternal) {
			t.Errorf("%+v", s)
		}
	}
}
