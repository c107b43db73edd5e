package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
)

func TestWhereTheyAreAskedIsReadAndChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "xiezhi.yaml")
	for _, row := range []struct{ text, refused string }{
		{"cases_pending: 50\ncases_hourly: 60", ""},
		{"cases_pending: 50", "cases_hourly"},
		{"cases_pending: 0", "cases_pending"},
		{"feishu_app_id: cli_1", "feishu_encrypt_key_file"},
		{"feishu_encrypt_key_file: k", "feishu_app_id"},
		{"feishu_way: pigeon", "feishu_way"},
		{"feishu_url: http://open.feishu.cn", "in the clear"},
		{"matrix_homeserver: https://m.example", "give all or none"},
		{"matrix_homeserver: http://m.example\nmatrix_user: '@x:m.example'\nmatrix_token_file: t", "in the clear"},
		{"matrix_homeserver: http://127.0.0.1:8008\nmatrix_user: '@x:m.example'\nmatrix_token_file: t", ""},
		{"webhooks: {soc: {url: https://soc.example/hook, secret_file: s}}", ""},
		{"webhooks: {soc: {url: https://soc.example/hook}}", "secret_file"},
		{"webhooks: {soc: {url: https://soc.example/hook, secret_file: s, retries: 3}}", "retries"},
		{"webhooks: {soc: {url: 'https://u:p@soc.example', secret_file: s}}", "without a user"},
	} {
		if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(file, nil, nil)
		if (err == nil) != (row.refused == "") || err != nil && (!strings.Contains(err.Error(), row.refused) || strings.Contains(err.Error(), "u:p")) {
			t.Errorf("%s: %v, want %q", row.text, err, row.refused)
		}
	}
}

func TestASecretIsOneSmallText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for text, want := range map[string]string{" s3cret\n": "s3cret", "\n": "", strings.Repeat("x", 5000): ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := config.Secret(file); got != want || (err == nil) != (want != "") {
			t.Errorf("%.10q: %q, %v", text, got, err)
		}
	}
}
