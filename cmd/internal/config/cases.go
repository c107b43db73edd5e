package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Cases is how people are asked.
type Cases struct {
	// Pending and Hourly bound the cases that one subject has opened through one
	// caller by one template: at a time, and within an hour.
	Pending int `koanf:"cases_pending"`
	Hourly  int `koanf:"cases_hourly"`

	Feishu   Feishu             `koanf:",squash"`
	Matrix   Matrix             `koanf:",squash"`
	Webhooks map[string]Webhook `koanf:"webhooks"` // by the name that templates use
}

// Feishu is the app that shows cases in Feishu or Lark.
type Feishu struct {
	AppID                 string `koanf:"feishu_app_id"` // empty: there is none
	AppSecretFile         string `koanf:"feishu_app_secret_file"`
	EncryptKeyFile        string `koanf:"feishu_encrypt_key_file"`
	VerificationTokenFile string `koanf:"feishu_verification_token_file"`
	TenantKey             string `koanf:"feishu_tenant_key"`
	URL                   string `koanf:"feishu_url"`
	// Way is how answers come in: one of FeishuWays.
	Way string `koanf:"feishu_way"`
}

// FeishuWays are how answers come in from Feishu: by calls of ours, which needs
// an address that Feishu reaches, or over a connection that we open.
var FeishuWays = []string{"callback", "connection"}

// Matrix is the user that shows cases in Matrix.
type Matrix struct {
	Homeserver string `koanf:"matrix_homeserver"` // empty: there is none
	User       string `koanf:"matrix_user"`       // "@xiezhi:example.org"; only users of its server may answer
	TokenFile  string `koanf:"matrix_token_file"`
}

// Webhook is one receiver of cases.
type Webhook struct {
	URL        string `koanf:"url"`
	SecretFile string `koanf:"secret_file"`
	// AllowInternal lets the URL lead to addresses of this network.
	AllowInternal bool `koanf:"allow_internal"`
}

// LoadCases reads a file of these keys alone, as `xiezhi dev` takes it.
func LoadCases(path string) (Cases, error) {
	c := Defaults().Cases
	if err := load(&c, path, EnvPrefix, nil, nil); err != nil {
		return Cases{}, err
	}
	return c, c.validate()
}

func (c *Cases) validate() error {
	var errs []error
	if c.Pending < 1 || c.Hourly < c.Pending {
		errs = append(errs, fmt.Errorf("cases_pending: %d, cases_hourly: %d: want at least 1, and no fewer within an hour than at a time", c.Pending, c.Hourly))
	}
	f := &c.Feishu
	switch {
	case f.AppID == "" && (f.AppSecretFile != "" || f.EncryptKeyFile != "" || f.VerificationTokenFile != "" || f.TenantKey != ""):
		errs = append(errs, errors.New("feishu_app_id: required with the other feishu_ keys"))
	case f.AppID != "" && (f.AppSecretFile == "" || f.EncryptKeyFile == "" || f.VerificationTokenFile == "" || f.TenantKey == ""):
		errs = append(errs, errors.New("feishu_app_id: want feishu_app_secret_file, feishu_encrypt_key_file, feishu_verification_token_file and feishu_tenant_key with it"))
	}
	if !slices.Contains(FeishuWays, f.Way) {
		errs = append(errs, fmt.Errorf("feishu_way: %q: want %s", f.Way, strings.Join(FeishuWays, " or ")))
	}
	errs = append(errs, secure("feishu_url", f.URL))
	m := &c.Matrix
	if (m.Homeserver == "") != (m.User == "") || (m.Homeserver == "") != (m.TokenFile == "") {
		errs = append(errs, errors.New("matrix_homeserver, matrix_user and matrix_token_file: give all or none"))
	}
	if m.Homeserver != "" {
		errs = append(errs, secure("matrix_homeserver", m.Homeserver))
	}
	for name, w := range c.Webhooks {
		if w.SecretFile == "" {
			errs = append(errs, fmt.Errorf("webhooks.%s: secret_file: required: it is what calls are signed with", name))
		}
		errs = append(errs, secure("webhooks."+name+".url", w.URL))
	}
	return errors.Join(errs...)
}

// secure refuses what secrets would be sent to in the clear.
func secure(key, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("%s: want a URL such as https://host, without a user", key) // the parser's error would repeat it
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())) {
		return fmt.Errorf("%s: %s is neither https nor on loopback: secrets would be sent in the clear", key, u.Host)
	}
	return nil
}

const maxSecret = 4096

// Secret reads a file of one secret, without the white space around it.
func Secret(file string) (string, error) {
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	if text := strings.TrimSpace(string(data)); text != "" && len(data) <= maxSecret {
		return text, nil
	}
	return "", fmt.Errorf("%s: want a secret of at most %d bytes", file, maxSecret)
}
