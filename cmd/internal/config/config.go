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
	"slices"
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

	// PublicURL is how callers reach the API, without a final slash, where a
	// proxy stands before it; empty: as each call names it.
	PublicURL string `koanf:"public_url"`
	// ARAPVersion is the version of AuthZEN's Access Request and Approval
	// Profile that is served, one of ARAPVersions.
	ARAPVersion string `koanf:"arap_version"`

	// StreamListen is the address of the stream to PEPs, host:port, served
	// with the same certificate. StreamURL is where PEPs reach it from outside
	// ("wss://xiezhi.example:8081"); empty: as the listener is.
	StreamListen string `koanf:"stream_listen"`
	StreamURL    string `koanf:"stream_url"`
	// StreamClientCA is a PEM file of authorities whose client certificates
	// name PEPs; empty: PEPs show tokens.
	StreamClientCA string `koanf:"stream_client_ca"`
	// StreamConnections bounds the PEPs that are connected to this node,
	// StreamPerTenant those of one tenant's credentials, or of one subject of the
	// platform's own; 0: 32768, and half of all.
	StreamConnections int `koanf:"stream_connections"`
	StreamPerTenant   int `koanf:"stream_per_tenant"`
	// PEPsPerTenant is how many PEPs of one tenant's credentials are listed,
	// those that have gone included; 0: 10,000.
	PEPsPerTenant int `koanf:"peps_per_tenant"`

	// Keys is the folder of the keys that this installation signs with, the
	// same on all nodes; empty: "keys" in Data.
	Keys string `koanf:"keys"`
	// Node names this process among the nodes; empty: host name and pid.
	Node string `koanf:"node"`
	// GrantStale is how long credentials and grants count after the database
	// was read last; at most MaxGrantStale. StaleBound is how long policies
	// without a bound of their own do.
	GrantStale time.Duration `koanf:"grant_stale"`
	StaleBound time.Duration `koanf:"stale_bound"`

	// Data is the folder of the SQLite databases and of the decision spool.
	Data string `koanf:"data"`
	// DatabaseURL names a PostgreSQL database, without a password; empty means
	// SQLite in Data. DatabaseURLFile is a file that holds such a URL, with one.
	DatabaseURL     string `koanf:"database_url"`
	DatabaseURLFile string `koanf:"database_url_file"`

	// StaticAttributes is a YAML file of attributes that policies may trust: the
	// source "static" of attributes.yaml. It is read at the start.
	StaticAttributes string `koanf:"static_attributes"`
	// Sources are programs that attributes are asked of, by the name that
	// attributes.yaml and templates use.
	Sources map[string]AttributeSource `koanf:"sources"`

	// Policies is the git repository that policies are published from, if any.
	Policies Policies `koanf:",squash"`

	// Cases is how people are asked.
	Cases Cases `koanf:",squash"`

	// Budget bounds one decision.
	Budget time.Duration `koanf:"budget"`
	// RegoEngine is what evaluates Rego: compiled, topdown or both.
	RegoEngine string `koanf:"rego_engine"`
	// GrantCeiling is the longest validity of a grant made by hand.
	GrantCeiling time.Duration `koanf:"grant_ceiling"`
	// SpoolMaxBytes bounds decision records that have not reached the database.
	SpoolMaxBytes int64 `koanf:"spool_max_bytes"`

	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `koanf:"log_level"`
	LogFormat string `koanf:"log_format"`
}

// MaxGrantStale is the most that grant_stale may be, and what it is unless it
// is set.
const MaxGrantStale = 30 * time.Second

// Defaults are the values of keys that nobody sets.
func Defaults() Server {
	return Server{
		Listen: "127.0.0.1:8080", ARAPVersion: ARAPVersions[0], StreamListen: "127.0.0.1:8081", GrantStale: MaxGrantStale, StaleBound: time.Hour, Data: "/var/lib/xiezhi",
		Policies: Policies{Poll: time.Minute, Subject: "service:git"},
		Cases:    Cases{Pending: 5, Hourly: 20, Feishu: Feishu{URL: "https://open.feishu.cn", Way: FeishuWays[0]}}, Budget: 500 * time.Millisecond, RegoEngine: RegoEngines[0],
		GrantCeiling: 24 * time.Hour, SpoolMaxBytes: 1 << 30, LogLevel: "info", LogFormat: "text",
	}
}

// ARAPVersions are what arap_version may be; the first is what it is unless it
// is set.
var ARAPVersions = []string{"draft-1", ARAPOff}

// ARAPOff serves no access requests.
const ARAPOff = "off"

// RegoEngines are what rego_engine may be; the first is what it is unless it is
// set.
var RegoEngines = []string{"compiled", "topdown", "both"}

func validateRegoEngine(name string) error {
	if !slices.Contains(RegoEngines, name) {
		return fmt.Errorf("rego_engine: %q: want %s", name, strings.Join(RegoEngines, ", "))
	}
	return nil
}

// EnvPrefix begins the environment variable of every key: XIEZHI_LISTEN.
const EnvPrefix = "XIEZHI_"

// Load reads file (none if empty), then environ, then flags by key.
func Load(path string, environ []string, flags map[string]any) (Server, error) {
	s := Defaults()
	if err := load(&s, path, EnvPrefix, serverVariables(environ), flags); err != nil {
		return Server{}, err
	}
	return s, s.Validate()
}

// load reads file (none if empty), then the variables that begin with prefix,
// then flags, into a struct that holds the defaults.
func load(into any, path, prefix string, environ []string, flags map[string]any) error {
	k := koanf.New(".")
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	variables := env.Provider(".", env.Opt{
		Prefix:      prefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(key, value string) (string, any) {
			return strings.ToLower(strings.TrimPrefix(key, prefix)), value
		},
	})
	if err := k.Load(variables, nil); err != nil {
		return fmt.Errorf("read the environment: %w", err)
	}
	if err := k.Load(confmap.Provider(flags, "."), nil); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	err := k.UnmarshalWithConf("", into, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result: into, TagName: "koanf", ErrorUnused: true, WeaklyTypedInput: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(",")),
	}})
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// serverVariables leaves out the variables that the test suite, the client
// commands and a sidecar use.
func serverVariables(environ []string) []string {
	var ours []string
	for _, v := range environ {
		if strings.HasPrefix(v, EnvPrefix) && !strings.HasPrefix(v, EnvPrefix+"TEST_") && !strings.HasPrefix(v, PEPEnvPrefix) &&
			!strings.HasPrefix(v, EnvPrefix+"SERVER=") && !strings.HasPrefix(v, EnvPrefix+"TOKEN_FILE=") {
			ours = append(ours, v)
		}
	}
	return ours
}

// Validate refuses what would be unsafe or could not start.
func (s *Server) Validate() error {
	errs := s.validateStream()
	if err := s.validateListen("listen", s.Listen); err != nil {
		errs = append(errs, err)
	}
	if u, err := url.Parse(s.PublicURL); s.PublicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(s.PublicURL, "/")) {
		errs = append(errs, errors.New("public_url: want a URL such as https://xiezhi.example, without a final slash"))
	}
	if !slices.Contains(ARAPVersions, s.ARAPVersion) {
		errs = append(errs, fmt.Errorf("arap_version: %q: want %s", s.ARAPVersion, strings.Join(ARAPVersions, " or ")))
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: give both or neither"))
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
	errs = append(errs, s.Policies.validate(), s.Cases.validate(), validateSources(s.Sources))
	if s.Budget <= 0 || s.Budget > time.Minute {
		errs = append(errs, fmt.Errorf("budget: %s: want more than 0 and at most 1m", s.Budget))
	}
	if err := validateRegoEngine(s.RegoEngine); err != nil {
		errs = append(errs, err)
	}
	if s.GrantCeiling <= 0 {
		errs = append(errs, fmt.Errorf("grant_ceiling: %s: want more than 0", s.GrantCeiling))
	}
	if s.SpoolMaxBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("spool_max_bytes: %d: want at least 1048576", s.SpoolMaxBytes))
	}
	return errors.Join(errs...)
}

func (s *Server) validateListen(key, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %q: want host:port", key, address)
	}
	if s.TLSCert == "" && !s.InsecureListen && !Loopback(host) {
		return fmt.Errorf("%s: %s is not loopback and there is no TLS: give tls_cert and tls_key, or insecure_listen behind a proxy that ends TLS", key, address)
	}
	return nil
}

func (s *Server) validateStream() (errs []error) {
	if err := s.validateListen("stream_listen", s.StreamListen); err != nil {
		errs = append(errs, err)
	}
	if u, err := url.Parse(s.StreamURL); s.StreamURL != "" && (err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		errs = append(errs, errors.New("stream_url: want a URL such as wss://xiezhi.example:8081"))
	} else if u.Scheme == "ws" && !s.InsecureListen && !Loopback(u.Hostname()) {
		errs = append(errs, fmt.Errorf("stream_url: %s is neither wss nor on loopback: PEPs would show their tokens in the clear", s.StreamURL))
	}
	if s.StreamClientCA != "" && s.TLSCert == "" {
		errs = append(errs, errors.New("stream_client_ca: client certificates need tls_cert and tls_key"))
	}
	if s.StreamConnections < 0 || s.StreamPerTenant < 0 || s.StreamConnections > 0 && s.StreamPerTenant > s.StreamConnections {
		errs = append(errs, fmt.Errorf("stream_connections: %d, stream_per_tenant: %d: want 0 or more, and no more for a tenant than for all", s.StreamConnections, s.StreamPerTenant))
	}
	if s.PEPsPerTenant < 0 {
		errs = append(errs, fmt.Errorf("peps_per_tenant: %d: want 0 or more", s.PEPsPerTenant))
	}
	if s.GrantStale <= 0 || s.GrantStale > MaxGrantStale {
		errs = append(errs, fmt.Errorf("grant_stale: %s: want more than 0 and at most %s", s.GrantStale, MaxGrantStale))
	}
	if s.StaleBound <= 0 {
		errs = append(errs, fmt.Errorf("stale_bound: %s: want more than 0", s.StaleBound))
	}
	return errs
}

// KeysFolder is Keys, or where it is by default.
func (s *Server) KeysFolder() string {
	if s.Keys != "" {
		return s.Keys
	}
	return filepath.Join(s.Data, "keys")
}

// NodeName is Node, or what it is by default.
func (s *Server) NodeName() string {
	if s.Node != "" {
		return s.Node
	}
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
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
