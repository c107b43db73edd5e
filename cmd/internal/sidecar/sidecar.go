package sidecar

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
)

// Sidecar is a PEP behind the decision doors.
type Sidecar struct {
	pep  *pep.PEP
	http *httpd.Server
}

// Open starts the PEP; it does not wait for the server. Loopback says that the
// door is a loopback address, which a browser can be led to, and not a Unix
// socket.
func Open(ctx context.Context, c config.PEP, loopback bool, log *slog.Logger) (*Sidecar, error) {
	told, err := settings(c)
	if err != nil {
		return nil, err
	}
	rego, err := local.ParseRegoEngine(c.RegoEngine)
	if err != nil {
		return nil, fmt.Errorf("rego_engine: %w", err)
	}
	engine := local.New(local.Options{Rego: local.RegoOptions{Engine: rego, Log: log, Reproducers: filepath.Join(c.Data, "reproducers")}})
	told.Log, told.Engine = log, engine
	s := &Sidecar{}
	if s.pep, err = pep.New(ctx, told); err != nil {
		return nil, err
	}
	evaluations := httpd.RegoMeasures(func() httpd.RegoStats { return httpd.RegoStats(engine.RegoStats()) })
	s.http, err = httpd.New(httpd.Config{
		Guard: guard{c.Tenants}, Decider: decider{s.pep}, Routes: httpd.SidecarRoutes(func() any { return s.pep.Status() }),
		LocalNames: loopback, Measures: append(measures(s.pep), evaluations...), Now: time.Now, NewID: rand.Text, Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, s.pep.Close(ctx))
	}
	return s, nil
}

// closeWithin bounds how long a sidecar that stops waits for the server to
// take its records; what is left is sent at the next start.
const closeWithin = 5 * time.Second

// Serve answers on the listener until ctx ends, then drains and closes.
func (s *Sidecar) Serve(ctx context.Context, ln net.Listener) error {
	err := s.http.Serve(ctx, ln)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	return errors.Join(err, s.pep.Close(ctx))
}

// Status is what the PEP knows of itself.
func (s *Sidecar) Status() pep.Status { return s.pep.Status() }

// settings reads the files that the configuration names.
func settings(c config.PEP) (pep.Config, error) {
	root, err := readTrust(c.Trust)
	if err != nil {
		return pep.Config{}, err
	}
	labels, err := c.LabelMap()
	if err != nil {
		return pep.Config{}, err
	}
	told := pep.Config{
		Server: c.Server, ID: c.ID, Labels: labels, Tenants: c.Tenants, Trust: root, Dir: c.Data,
		GrantStale: c.GrantStale, StaleBound: c.StaleBound, RemoteTimeout: c.RemoteTimeout, SpoolMaxBytes: c.SpoolMaxBytes,
	}
	if c.TokenFile != "" {
		told.Token = pep.TokenFile(c.TokenFile)
	}
	told.TLS, err = clientTLS(c)
	return told, err
}

// maxTrust bounds the file trust.json in bytes.
const maxTrust = 1 << 20

func readTrust(path string) (trust.Root, error) {
	data, err := readLimited(path, maxTrust)
	if err != nil {
		return trust.Root{}, fmt.Errorf("trust: %w", err)
	}
	root, err := trust.ParseRoot(data)
	if err != nil {
		return trust.Root{}, fmt.Errorf("trust: %s: %w", path, err)
	}
	return root, nil
}

func clientTLS(c config.PEP) (*tls.Config, error) {
	if c.TLSCA == "" && c.TLSCert == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLSCA != "" {
		pem, err := readLimited(c.TLSCA, maxTrust)
		if err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca: %s holds no certificate in PEM", c.TLSCA)
		}
	}
	if c.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("tls_cert %s and tls_key %s: %w", c.TLSCert, c.TLSKey, err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is over %d bytes", path, limit)
	}
	return data, nil
}

// measures are the PEP's numbers beside those of the doors.
func measures(p *pep.PEP) []httpd.Measure {
	gauge := func(name, help string, read func(pep.Status) float64) httpd.Measure {
		return httpd.Measure{Name: name, Help: help, Read: func() float64 { return read(p.Status()) }}
	}
	total := func(name, help string, read func(pep.Records) uint64) httpd.Measure {
		return httpd.Measure{Name: name, Help: help, Total: true, Read: func() float64 { return float64(read(p.Status().Records)) }}
	}
	return []httpd.Measure{
		gauge("xiezhi_pep_connected", "1 while the stream from the server is open.", func(s pep.Status) float64 { return number(s.Connected) }),
		gauge("xiezhi_pep_stale", "1 while what decides is not vouched for by a recent heartbeat.", func(s pep.Status) float64 { return number(s.Stale) }),
		gauge("xiezhi_pep_heartbeat_age_seconds", "Age of the newest signed heartbeat; -1 before the first.", func(s pep.Status) float64 {
			if s.Heartbeat.IsZero() {
				return -1
			}
			return s.Now.Sub(s.Heartbeat).Seconds()
		}),
		gauge("xiezhi_pep_clock_skew_seconds", "Local clock against the signed time.", func(s pep.Status) float64 { return s.ClockSkew.Seconds() }),
		gauge("xiezhi_audit_unshipped_bytes", "Decision records on disk that the server has not taken yet.", func(s pep.Status) float64 { return float64(s.Records.Waiting) }),
		total("xiezhi_audit_records_written_total", "Decision records handed to the spool.", func(r pep.Records) uint64 { return r.Written }),
		total("xiezhi_audit_records_sent_total", "Decision records that the server took.", func(r pep.Records) uint64 { return r.Sent }),
		total("xiezhi_audit_records_lost_total", "Buffered decision records that the disk did not keep.", func(r pep.Records) uint64 { return r.Lost }),
		total("xiezhi_audit_records_dropped_total", "Decision records that the server refused for good.", func(r pep.Records) uint64 { return r.Dropped }),
		total("xiezhi_audit_records_refused_total", "Decisions denied because they could not be recorded.", func(r pep.Records) uint64 { return r.Refused }),
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
