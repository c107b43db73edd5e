// Package config reads what a server is told: a YAML file, then environment
// variables, then flags, each overriding the one before. An unknown key stops
// the start. A secret is a path to a file, never a value.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// Server is the configuration of `xiezhi serve`. The zero value with a Data
// folder is useful: SQLite, loopback, plain HTTP.
type Server struct {
	// Listen is the address of the API, host:port.
	Listen string `koanf:"listen"`
	// TLSCert and TLSKey are PEM files. Both or neither.
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	// InsecureListen allows plain HTTP on an address that is not loopback, for
	// a proxy in the same trust domain that ends TLS.
	InsecureListen bool `koanf:"insecure_listen"`

	// Data is the folder of the SQLite databases and of the decision spool.
	Data string `koanf:"data"`
	// DatabaseURL names a PostgreSQL database, without a password; empty means
	// SQLite in Data. DatabaseURLFile is a file that holds such a URL, with one.
	DatabaseURL     string `koanf:"database_url"`
	DatabaseURLFile string `koanf:"database_url_file"`

	// StaticAttributes is a YAML file of attributes that policies may trust: the
	// source "static" of attributes.yaml. It is read at the start.
	StaticAttributes string `koanf:"static_attributes"`

	// Budget bounds one decision.
	Budget time.Duration `koanf:"budget"`
	// GrantCeiling is the longest validity of a grant made by hand.
	GrantCeiling time.Duration `koanf:"grant_ceiling"`
	// SpoolMaxBytes bounds decision records that have not reached the database.
	SpoolMaxBytes int64 `koanf:"spool_max_bytes"`

	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `koanf:"log_level"`
	LogFormat string `koanf:"log_format"`
}

// Defaults are the values of keys that nobody sets.
func Defaults() Server {
	return Server{
		Listen: "127.0.0.1:8080", Data: "/var/lib/xiezhi", Budget: 500 * time.Millisecond,
		GrantCeiling: 24 * time.Hour, SpoolMaxBytes: 1 << 30, LogLevel: "info", LogFormat: "text",
	}
}

// EnvPrefix begins the environment variable of every key: XIEZHI_LISTEN.
const EnvPrefix = "XIEZHI_"

// Load reads file (none if empty), then environ, then flags by key.
func Load(path string, environ []string, flags map[string]any) (Server, error) {
	k := koanf.New(".")
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return Server{}, fmt.Errorf("read %s: %w", path, err)
		}
	}
	variables := env.Provider(".", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return serverVariables(environ) },
		TransformFunc: func(key, value string) (string, any) {
			return strings.ToLower(strings.TrimPrefix(key, EnvPrefix)), value
		},
	})
	if err := k.Load(variables, nil); err != nil {
		return Server{}, fmt.Errorf("read the environment: %w", err)
	}
	if err := k.Load(confmap.Provider(flags, "."), nil); err != nil {
		return Server{}, fmt.Errorf("read the flags: %w", err)
	}
	s := Defaults()
	err := k.UnmarshalWithConf("", &s, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result: &s, TagName: "koanf", ErrorUnused: true, WeaklyTypedInput: true,
		DecodeHook: mapstructure.StringToTimeDurationHookFunc(),
	}})
	if err != nil {
		return Server{}, fmt.Errorf("configuration: %w", err)
	}
	return s, s.Validate()
}

// serverVariables leaves out the variables that the test suite and the client
// commands use.
func serverVariables(environ []string) []string {
	var ours []string
	for _, v := range environ {
		if strings.HasPrefix(v, EnvPrefix) && !strings.HasPrefix(v, EnvPrefix+"TEST_") &&
			!strings.HasPrefix(v, EnvPrefix+"SERVER=") && !strings.HasPrefix(v, EnvPrefix+"TOKEN_FILE=") {
			ours = append(ours, v)
		}
	}
	return ours
}

// Validate refuses what would be unsafe or could not start.
func (s *Server) Validate() error {
	var errs []error
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		errs = append(errs, fmt.Errorf("listen: %q: want host:port", s.Listen))
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: give both or neither"))
	}
	if err == nil && s.TLSCert == "" && !s.InsecureListen && !Loopback(host) {
		errs = append(errs, fmt.Errorf("listen: %s is not loopback and there is no TLS: give tls_cert and tls_key, or insecure_listen behind a proxy that ends TLS", s.Listen))
	}
	if s.Data == "" {
		errs = append(errs, errors.New("data: name the folder for the spool and SQLite"))
	}
	if s.DatabaseURL != "" && s.DatabaseURLFile != "" {
		errs = append(errs, errors.New("database_url and database_url_file: give one"))
	}
	if u, err := url.Parse(s.DatabaseURL); err != nil {
		errs = append(errs, errors.New("database_url: not a URL")) // the parser's error would repeat it
	} else if _, secret := u.User.Password(); secret {
		errs = append(errs, errors.New("database_url: holds a password; put the URL into a file and name it in database_url_file"))
	}
	if s.Budget <= 0 || s.Budget > time.Minute {
		errs = append(errs, fmt.Errorf("budget: %s: want more than 0 and at most 1m", s.Budget))
	}
	if s.GrantCeiling <= 0 {
		errs = append(errs, fmt.Errorf("grant_ceiling: %s: want more than 0", s.GrantCeiling))
	}
	if s.SpoolMaxBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("spool_max_bytes: %d: want at least 1048576", s.SpoolMaxBytes))
	}
	return errors.Join(errs...)
}

// Database returns the PostgreSQL URL, or "" for SQLite.
func (s *Server) Database() (string, error) {
	if s.DatabaseURLFile == "" {
		return s.DatabaseURL, nil
	}
	data, err := os.ReadFile(filepath.Clean(s.DatabaseURLFile))
	if err != nil {
		return "", fmt.Errorf("database_url_file: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// Loopback reports whether a host is an address of this machine only.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
