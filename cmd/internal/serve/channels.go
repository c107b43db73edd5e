package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cheq/feishu"
	"github.com/xiezhi-project/xiezhi/cheq/matrix"
	"github.com/xiezhi-project/xiezhi/cheq/webhook"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
)

// channels are where cases are shown, and answered.
type channels struct {
	deliverer *cheq.Deliverer
	// callbacks are what channels are called by, by their name.
	callbacks map[string]httpd.Callback
	// listeners read what is answered, until their context ends.
	listeners []func(context.Context)
}

// openChannels opens those that are configured, for the installation of that
// name. None makes a call yet.
func openChannels(c config.Server, core *Core, installation string, refused recorder, log *slog.Logger) (*channels, error) {
	all := &channels{callbacks: map[string]httpd.Callback{}, deliverer: &cheq.Deliverer{
		Store: core.Cases.Store, Channels: map[string]cheq.Channel{}, Now: time.Now, Log: log, Wake: core.Store.Wake,
	}}
	answers := approvals.NewAnswers(approvals.AnswersConfig{
		Cases: core.Cases, May: core.maySubject, Bind: core.PAP.BindByCode, Refused: refused.refused, Now: time.Now, NewID: newID,
	})
	err := errors.Join(all.openFeishu(&c.Cases.Feishu, answers, log), all.openMatrix(c, answers, log), all.openWebhooks(&c.Cases, installation, answers, log))
	return all, err
}

// maySubject asks what a subject may that acts through a channel.
func (c *Core) maySubject(ctx context.Context, who cheq.Person, right, tenant string) error {
	actor, err := c.guard.Subject(ctx, who.Tenant, who.Name)
	if err != nil {
		return err
	}
	return actor.May(ctx, right, tenant)
}

func (all *channels) openFeishu(c *config.Feishu, answers *approvals.Answers, log *slog.Logger) error {
	if c.AppID == "" {
		return nil
	}
	secrets := map[string]string{}
	for key, file := range map[string]string{
		"feishu_app_secret_file": c.AppSecretFile, "feishu_encrypt_key_file": c.EncryptKeyFile, "feishu_verification_token_file": c.VerificationTokenFile,
	} {
		secret, err := config.Secret(file)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		secrets[key] = secret
	}
	bot, err := feishu.New(feishu.Config{
		AppID: c.AppID, AppSecret: secrets["feishu_app_secret_file"], EncryptKey: secrets["feishu_encrypt_key_file"],
		VerificationToken: secrets["feishu_verification_token_file"], TenantKey: c.TenantKey, BaseURL: c.URL,
		Answers: answers, Bind: answers.Bind, Now: time.Now, Log: log,
	})
	if err != nil {
		return err
	}
	all.deliverer.Channels["feishu"] = bot
	if c.Way == "connection" {
		all.listeners = append(all.listeners, bot.Run)
	} else {
		all.callbacks["feishu"] = bot.Callback
	}
	return nil
}

func (all *channels) openMatrix(c config.Server, answers *approvals.Answers, log *slog.Logger) error {
	m := &c.Cases.Matrix
	if m.Homeserver == "" {
		return nil
	}
	token, err := config.Secret(m.TokenFile)
	if err != nil {
		return fmt.Errorf("matrix_token_file: %w", err)
	}
	_, server, _ := strings.Cut(m.User, ":")
	channel, err := matrix.New(matrix.Config{
		Homeserver: m.Homeserver, UserID: m.User, AccessToken: token, ServerName: server, Answers: answers, Identities: answers,
		Position: positionFile(filepath.Join(c.Data, "matrix-position")), Now: time.Now, Log: log,
	})
	if err != nil {
		return err
	}
	all.deliverer.Channels[matrix.Name] = channel
	all.listeners = append(all.listeners, func(ctx context.Context) {
		if err := channel.Run(ctx); ctx.Err() == nil {
			log.Error("answers from Matrix are not read any more", "error", err)
		}
	})
	return nil
}

func (all *channels) openWebhooks(c *config.Cases, installation string, answers *approvals.Answers, log *slog.Logger) error {
	var hooks []webhook.Hook
	for name, w := range c.Webhooks {
		secret, err := config.Secret(w.SecretFile)
		if err != nil {
			return fmt.Errorf("webhooks.%s: secret_file: %w", name, err)
		}
		hooks = append(hooks, webhook.Hook{Name: name, URL: w.URL, Secret: []byte(secret), AllowInternal: w.AllowInternal})
	}
	if len(hooks) == 0 {
		return nil
	}
	channel, err := webhook.New(webhook.Config{Hooks: hooks, Source: "urn:xiezhi:" + installation, Answers: answers, Now: time.Now, Log: log})
	if err != nil {
		return err
	}
	all.deliverer.Channels[webhook.Name], all.callbacks[webhook.Name] = channel, channel.Callback
	return nil
}

// run shows cases and reads answers until ctx ends.
func (all *channels) run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { all.deliverer.Run(ctx) })
	for _, listen := range all.listeners {
		parts.Go(func() { listen(ctx) })
	}
}

// positionFile keeps how far this node has read a stream of answers. One that
// is lost makes answers come again, which count once.
type positionFile string

// Load implements [matrix.Position].
func (p positionFile) Load(context.Context) (string, error) {
	data, err := os.ReadFile(string(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}

// Save implements [matrix.Position].
func (p positionFile) Save(_ context.Context, batch string) error {
	next := string(p) + ".next"
	if err := os.WriteFile(next, []byte(batch), 0o600); err != nil {
		return err
	}
	return os.Rename(next, string(p))
}
