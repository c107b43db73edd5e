package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Policies is where a server publishes policies from by itself.
type Policies struct {
	// Address is git+https://host/repository@branch#folder, or git+file://….
	Address string `koanf:"policies"`
	// Poll is how often it is fetched without being asked, at least once a second.
	Poll time.Duration `koanf:"policies_poll"`
	// Subject is whose rights it is published with: "service:git" of the
	// platform, or a tenant's "acme/service:git".
	Subject string `koanf:"policies_subject"`
	// TokenFile holds a token for HTTPS, or user:token.
	TokenFile string `koanf:"policies_token_file"`
	// Signers is a file of OpenPGP public keys and SSH allowed signers; with it,
	// a commit that none of them signed is refused.
	Signers string `koanf:"policies_signers"`
	// WebhookSecretFile holds the secret that the git host signs its calls with.
	WebhookSecretFile string `koanf:"policies_webhook_secret_file"`
	// StatusURL is told what became of each commit; {commit} in it is filled.
	StatusURL       string `koanf:"policies_status_url"`
	StatusTokenFile string `koanf:"policies_status_token_file"`
}

func (p *Policies) validate() error {
	if p.Address == "" {
		var errs []error
		for key, value := range map[string]string{
			"policies_token_file": p.TokenFile, "policies_signers": p.Signers, "policies_webhook_secret_file": p.WebhookSecretFile,
			"policies_status_url": p.StatusURL, "policies_status_token_file": p.StatusTokenFile,
		} {
			if value != "" {
				errs = append(errs, fmt.Errorf("%s: there is no policies to use it for", key))
			}
		}
		return errors.Join(errs...)
	}
	var errs []error
	if address, ok := strings.CutPrefix(p.Address, "git+"); !ok {
		errs = append(errs, errors.New("policies: want git+https://host/repository@branch or git+file:///path@branch"))
	} else if u, err := url.Parse(address); err != nil {
		errs = append(errs, errors.New("policies: not a URL")) // the parser's error would repeat it
	} else if u.User != nil {
		errs = append(errs, errors.New("policies: holds a user or password; put the token into a file and name it in policies_token_file"))
	}
	if p.Poll < time.Second {
		errs = append(errs, fmt.Errorf("policies_poll: %s: want at least 1s", p.Poll))
	}
	if _, name := p.Owner(); !strings.Contains(name, ":") {
		errs = append(errs, fmt.Errorf("policies_subject: %q: want <type>:<id>, or <tenant>/<type>:<id>", p.Subject))
	}
	if p.StatusTokenFile != "" && p.StatusURL == "" {
		errs = append(errs, errors.New("policies_status_token_file: there is no policies_status_url to send it to"))
	}
	return errors.Join(errs...)
}

// Owner splits Subject into its tenant, "" for the platform, and its name.
func (p *Policies) Owner() (tenant, name string) {
	before, rest, ok := strings.Cut(p.Subject, "/")
	if !ok || strings.Contains(before, ":") {
		return "", p.Subject // a subject's id may hold a slash
	}
	return before, rest
}
