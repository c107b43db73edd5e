//go:build unix

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
)

// approver is who answers, there and here.
const approver = "boss"

const askedPolicy = `id: shop
name: Shop
rules:
  - {id: sells, condition: "action == 'shop.sell'", effect: ALLOW, message: {en: "Anybody may buy.", zh: "任何人可买。"}}
  - {id: asked, condition: "action == 'shop.sell'", effect: REVIEW, admits: false, template: shop, message: {en: "Ask.", zh: "须审批。"}}
`

const askedTemplate = `title: {en: A sale, zh: 售卖}
decide_by: 1h
grant_for: {default: 1h, ceiling: 1h}
notify: [{channel: feishu, to: "chat:oc_desk"}]
all_of:
  - {title: {en: Bosses, zh: 主管}, role: boss, approvals: 1}
`

// asking is by what people are asked.
var asking = []bundles.File{
	{Path: "tenants/" + tenant + "/shop.policy.yaml", Data: []byte(askedPolicy)},
	{Path: "approvals/shop.yaml", Data: []byte(askedTemplate)},
}

// app is the server in the company's Feishu.
var app = feishu.App{ID: "cli_0123456789abcdef", Secret: "app-secret", EncryptKey: "encrypt-key", VerificationToken: "verification-token"}

// writeConfig writes the server's configuration.
func (d *desk) writeConfig() (file string, err error) {
	config := map[string]any{
		"feishu_app_id": app.ID, "feishu_tenant_key": "tenant-one", "feishu_url": d.door.URL(), "feishu_way": "callback",
	}
	for key, secret := range map[string]string{"app_secret": app.Secret, "encrypt_key": app.EncryptKey, "verification_token": app.VerificationToken} {
		file := filepath.Join(d.dir, key)
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			return "", err
		}
		config["feishu_"+key+"_file"] = file
	}
	text, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	file = filepath.Join(d.dir, "config.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

// employ makes the app and the person who answers, in the company and on the
// server, and notes the log's position after that.
func (d *desk) employ(ctx context.Context) error {
	app := app
	app.CallbackURL = d.server.url + "/api/v1/channels/feishu"
	if err := d.company.AddApp(app); err != nil {
		return err
	}
	if err := d.company.AddUser(feishu.User{Name: approver, Language: "en"}); err != nil {
		return err
	}
	if _, err := d.company.AddChat(feishu.Chat{ID: "oc_desk", Members: []string{approver}, Apps: []string{app.ID}}); err != nil {
		return err
	}
	for _, made := range []struct {
		path   string
		object map[string]any
	}{
		{"roles", map[string]any{"tenant": tenant, "name": "boss"}},
		{"subjects", map[string]any{"tenant": tenant, "type": "user", "id": approver}},
		{"identities", map[string]any{"tenant": tenant, "subject": "user:" + approver, "channel": "feishu", "platform": d.company.OpenID(app.ID, approver)}},
		{"bindings", map[string]any{"tenant": tenant, "subject": "user:" + approver, "role": "boss"}},
	} {
		revision, err := d.server.call(ctx, http.MethodPost, "/api/v1/"+made.path, nil, made.object, nil)
		if err != nil {
			return err
		}
		d.position = revision.Position
	}
	return nil
}
