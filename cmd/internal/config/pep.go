package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// PEP is the configuration of `xiezhi pep`, the sidecar.
type PEP struct {
	// Listen is a loopback host:port, or unix:/path.
	Listen string `koanf:"listen"`

	// Server is the URL of the API, TokenFile a file that holds the access
	// token; without it TLSCert and TLSKey are the client's certificate. TLSCA
	// is a PEM file of the authorities that vouch for the server; empty: the
	// system's.
	Server    string `koanf:"server"`
	TokenFile string `koanf:"token_file"`
	TLSCA     string `koanf:"tls_ca"`
	TLSCert   string `koanf:"tls_cert"`
	TLSKey    string `koanf:"tls_key"`

	// Trust is the file trust.json; Tenants are those that are served, "*" for
	// all; Data is the folder of the last known good state and of decision
	// records under way.
	Trust   string   `koanf:"trust"`
	Tenants []string `koanf:"tenants"`
	Data    string   `koanf:"data"`
	// ID and Labels ("key=value") name this PEP to the server.
	ID     string   `koanf:"id"`
	Labels []string `koanf:"labels"`

	// GrantStale, StaleBound, RemoteTimeout and SpoolMaxBytes are those of
	// pep.Config; 0 is its default.
	GrantStale    time.Duration `koanf:"grant_stale"`
	StaleBound    time.Duration `koanf:"stale_bound"`
	RemoteTimeout time.Duration `koanf:"remote_timeout"`
	SpoolMaxBytes int64         `koanf:"spool_max_bytes"`

	// RegoEngine is what evaluates Rego: compiled, topdown or both.
	RegoEngine string `koanf:"rego_engine"`

	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `koanf:"log_level"`
	LogFormat string `koanf:"log_format"`
}

// PEPEnvPrefix begins the environment variable of every key: XIEZHI_PEP_LISTEN.
const PEPEnvPrefix = EnvPrefix + "PEP_"

// LoadPEP reads file (none if empty), then environ, then flags by key. The
// variables XIEZHI_SERVER and XIEZHI_TOKEN_FILE, which the client commands
// use, hold where nothing else names these.
func LoadPEP(path string, environ []string, flags map[string]any) (PEP, error) {
	p := PEP{Listen: "127.0.0.1:8181", RegoEngine: RegoEngines[0], LogLevel: "info", LogFormat: "text"}
	var ours []string
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == EnvPrefix+"SERVER":
			p.Server = value
		case name == EnvPrefix+"TOKEN_FILE":
			p.TokenFile = value
		case strings.HasPrefix(name, PEPEnvPrefix):
			ours = append(ours, v)
		}
	}
	if err := load(&p, path, PEPEnvPrefix, ours, flags); err != nil {
		return PEP{}, err
	}
	return p, p.Validate()
}

// Validate refuses what would be unsafe or could not start. What Listen may be
// is the listener's to say.
func (p *PEP) Validate() error {
	var errs []error
	missing := func(key, value, what string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: %s", key, what))
		}
	}
	missing("listen", p.Listen, "name a loopback host:port or unix:/path")
	missing("server", p.Server, "name the URL of the server, such as https://xiezhi.example:8080")
	missing("trust", p.Trust, "name the file trust.json, which says whose signatures count")
	missing("data", p.Data, "name the folder of the last known good state and of decision records under way")
	if (p.TLSCert == "") != (p.TLSKey == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: give both or neither"))
	}
	if p.TokenFile == "" && p.TLSCert == "" {
		errs = append(errs, errors.New("token_file: name the file of the access token, or give tls_cert and tls_key"))
	}
	if len(p.Tenants) == 0 {
		errs = append(errs, errors.New("tenants: name those that are served, or *"))
	}
	if u, err := url.Parse(p.Server); err == nil && u.User != nil {
		errs = append(errs, errors.New("server: a URL holds no credential here; put the token into a file and name it in token_file"))
	}
	if err := validateRegoEngine(p.RegoEngine); err != nil {
		errs = append(errs, err)
	}
	if _, err := p.LabelMap(); err != nil {
		errs = append(errs, err)
	}
	for key, value := range map[string]time.Duration{"grant_stale": p.GrantStale, "stale_bound": p.StaleBound, "remote_timeout": p.RemoteTimeout} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("%s: %s: want 0 or more", key, value))
		}
	}
	return errors.Join(errs...)
}

// LabelMap reads the labels.
func (p *PEP) LabelMap() (map[string]string, error) {
	labels := map[string]string{}
	for _, label := range p.Labels {
		key, value, ok := strings.Cut(label, "=")
		if _, twice := labels[key]; !ok || key == "" || twice {
			return nil, fmt.Errorf("labels: %q: want key=value, each key once", label)
		}
		labels[key] = value
	}
	return labels, nil
}
