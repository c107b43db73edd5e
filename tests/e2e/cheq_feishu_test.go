//go:build unix

package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// dear is a shop where what is dear is asked of people.
const dear = shopRules + `  - {id: large, condition: "resource.properties.price > 3", effect: REVIEW, admits: false, template: dear, message: {en: "Dear.", zh: "贵。"}}
`

// A till and two of three bosses say yes; what they open ends after seconds.
const dearTemplate = `title: {en: Something dear, zh: 贵重物品}
decide_by: 1h
grant_for: {default: 3s, ceiling: 1h}
break_glass: fire
notify: [{channel: feishu, to: "chat:oc_desk"}]
all_of:
  - {title: {en: Tills, zh: 收银}, role: till, approvals: 1}
  - {title: {en: Bosses, zh: 主管}, role: boss, approvals: 2}
`

const fireTemplate = `title: {en: Fire, zh: 紧急}
kind: break_glass
decide_by: 1h
grant_for: {default: 1h, ceiling: 1h}
review_within: 24h
notify: [{channel: feishu, to: "chat:oc_desk"}]
any_of:
  - {title: {en: Bosses, zh: 主管}, role: boss, approvals: 1}
`

const feishuApp = "cli_0123456789abcdef"

// company is a simulated Feishu whose people answer a server's cases.
type company struct {
	*feishu.Sim
	t      *testing.T
	server *installation
	shop   *service
}

// staff are who they are in acme; stranger is bound to nobody.
var staff = map[string]string{"till": "till", "boss1": "boss", "boss2": "boss", "boss3": "boss", "guest": "visitor", "li": "boss"}

// openCompany starts a server with a Feishu app, and a shop.
func openCompany(t *testing.T, way, template string) *company {
	t.Helper()
	c := &company{Sim: feishu.New(feishu.Config{}), t: t}
	door, err := world.Listen("127.0.0.1:0", c.Sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		_ = door.Close()
	})
	app := feishu.App{ID: feishuApp, Secret: "app-secret", EncryptKey: "encrypt-key", VerificationToken: "verification-token", LongConnection: way == "connection"}
	channels := object{"feishu_app_id": app.ID, "feishu_tenant_key": "tenant-one", "feishu_url": door.URL(), "feishu_way": way}
	for key, secret := range map[string]string{"app_secret": app.Secret, "encrypt_key": app.EncryptKey, "verification_token": app.VerificationToken} {
		channels["feishu_"+key+"_file"] = saved(t, secret)
	}
	if err := c.AddApp(app); err != nil {
		t.Fatal(err)
	}
	c.server = installWith(t, minimal(t, files{
		"tenants/acme/shop.policy.yaml": dear, "approvals/dear.yaml": template, "approvals/fire.yaml": fireTemplate,
	}), "--channels", saved(t, encode(channels)))
	app.CallbackURL = c.server.url + "/api/v1/channels/feishu"
	if err := c.AddApp(app); err != nil {
		t.Fatal(err)
	}
	if way == "callback" {
		if err := c.VerifyURL(t.Context(), app.ID); err != nil {
			t.Fatal(err)
		}
	} else {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.AwaitConnections(ctx, app.ID, 1); err != nil {
			t.Fatal(err)
		}
	}
	c.employ()
	c.shop = openShop(t, c.server)
	c.shop.untilAsked(patience, sale(2), "decided in-process", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })
	return c
}

// saved is a file that holds a text.
func saved(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "saved")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// employ makes the staff, here and there, and says who is who.
func (c *company) employ() {
	c.t.Helper()
	s := c.server
	for _, role := range []string{"till", "boss", "visitor"} {
		s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/roles", body: encode(object{"tenant": "acme", "name": role})})
	}
	var names []string
	for name, role := range staff {
		names = append(names, name)
		if err := c.AddUser(feishu.User{Name: name, Language: "en"}); err != nil {
			c.t.Fatal(err)
		}
		subject := "user:" + name
		if name == "li" {
			subject = "user:li.wei" // who asks, and is there already
		} else {
			s.subject("acme", subject, "")
		}
		s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/bindings", body: encode(object{"tenant": "acme", "subject": subject, "role": role})})
		s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/identities", body: encode(object{
			"tenant": "acme", "subject": subject, "channel": "feishu", "platform": c.OpenID(feishuApp, name)})})
	}
	if err := c.AddUser(feishu.User{Name: "stranger", Language: "en"}); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.AddChat(feishu.Chat{ID: "oc_desk", Members: append(names, "stranger"), Apps: []string{feishuApp}}); err != nil {
		c.t.Fatal(err)
	}
}

// card waits for the oldest card that a person sees so.
func (c *company) card(what string, is func(feishu.View) bool) feishu.Message {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	m, err := c.AwaitMessage(ctx, func(m feishu.Message) bool {
		view, err := c.Card("till", m.ID)
		return err == nil && is(view)
	})
	if err != nil {
		for _, m := range c.Messages() {
			view, _ := c.Card("till", m.ID)
			c.t.Logf("%s %s: %d buttons\n%s\n%s", m.ID, view.Title, len(view.Buttons), view.Subtitle, strings.Join(view.Texts, "\n"))
		}
		c.t.Fatalf("no card: %s: %v", what, err)
	}
	return m
}

func open(v feishu.View) bool { return len(v.Buttons) > 0 }

func shows(v feishu.View, texts ...string) bool {
	return !slices.ContainsFunc(texts, func(text string) bool {
		return !strings.Contains(v.Title+"\n"+v.Subtitle+"\n"+strings.Join(v.Texts, "\n"), text)
	})
}

// tap lets a person answer, who is told what.
func (c *company) tap(user string, on feishu.Message, button string) feishu.Seen {
	c.t.Helper()
	seen, err := c.Tap(c.t.Context(), feishu.Tap{User: user, Message: on.ID, Button: button, Form: map[string]any{"reason": "by " + user}})
	if err != nil {
		c.t.Fatalf("%s taps %s: %v", user, button, err)
	}
	return seen
}

// taken expects that the platform shows no error and the app a toast.
func (c *company) taken(kind string, seen feishu.Seen) {
	c.t.Helper()
	if seen.Error != "" || seen.Toast == nil || seen.Toast.Type != kind {
		c.t.Errorf("the person sees %q, %+v, want a toast of type %s", seen.Error, seen.Toast, kind)
	}
}

// A REVIEW of the service becomes a card; two of three bosses and a till tap
// yes; the service allows by itself, until the grant has ended; then it is
// asked anew, and a no leaves it shut.
func TestPeopleAnswerInFeishu(t *testing.T) {
	for _, way := range []string{"callback", "connection"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := openCompany(t, way, dearTemplate)
			if a := c.shop.ask(sale(5)); a.Effect != "REVIEW" {
				t.Fatalf("%+v", a)
			}
			card := c.card("a case is open", open)
			for user, kind := range map[string]string{"stranger": "error", "guest": "error", "li": "error"} {
				if seen := c.tap(user, card, "approve"); seen.Toast == nil || seen.Toast.Type == "success" {
					t.Errorf("%s, who may not answer, sees %q, %+v; want a toast of type %s", user, seen.Error, seen.Toast, kind)
				}
			}
			for _, user := range []string{"boss1", "boss1", "till"} {
				c.taken("success", c.tap(user, card, "approve"))
			}
			if a := c.shop.ask(sale(5)); a.Effect != "REVIEW" {
				t.Errorf("after one boss of two and a till: %+v", a)
			}
			tapped := time.Now()
			c.taken("success", c.tap("boss3", card, "approve"))
			c.shop.untilAsked(patience, sale(5), "allowed by the service itself", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })
			t.Logf("allowed %s after the tap", time.Since(tapped).Round(time.Millisecond))
			if a := c.shop.ask(sale(6)); a.Effect != "REVIEW" {
				t.Errorf("something else, that nobody was asked about: %+v", a)
			}
			final := c.card("the case is approved", func(v feishu.View) bool { return !open(v) && shows(v, "boss3") })
			if final.ID != card.ID {
				t.Errorf("the end is shown in another message than the beginning")
			}
			c.shop.untilAsked(patience, sale(5), "held back again when the grant has ended", func(a shopAnswer) bool { return a.Effect == "REVIEW" })

			again := c.card("the case that was opened then", func(v feishu.View) bool { return open(v) && shows(v, "price = 5") })
			c.taken("success", c.tap("till", again, "reject"))
			c.card("the case is rejected", func(v feishu.View) bool { return !open(v) && shows(v, "by till") && !shows(v, "boss3") })
			if a := c.shop.ask(sale(5)); a.Effect != "REVIEW" {
				t.Errorf("after a no: %+v", a)
			}
		})
	}
}

// An emergency is asked by name; everybody sees it; one boss says yes twice;
// what is opened is marked wherever it shows.
func TestAnEmergencyInFeishu(t *testing.T) {
	for _, way := range []string{"callback", "connection"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			openCompany(t, way, dearTemplate).breaksTheGlass()
		})
	}
}

func (c *company) breaksTheGlass() {
	t := c.t
	t.Helper()
	emergency := func(reason string) answer {
		return c.server.do(call{as: "pep", path: "/api/v1/cheq", body: encode(object{"request": sale(5), "reason": reason, "break_glass": "fire"})})
	}
	if a := emergency(""); a.status != http.StatusBadRequest || !strings.Contains(a.text, "reason") {
		t.Errorf("without a reason: %d %s", a.status, a.text)
	}
	if a := emergency("the till burns"); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.text)
	}
	card := c.card("the emergency", func(v feishu.View) bool { return open(v) && shows(v, "the till burns") })
	if seen := c.tap("boss1", card, "approve"); seen.Toast == nil || seen.Toast.Type == "success" {
		t.Errorf("a first yes: %q, %+v", seen.Error, seen.Toast)
	}
	if a := c.shop.ask(sale(5)); a.Effect != "REVIEW" {
		t.Errorf("after a first yes: %+v", a)
	}
	await(t, patience, "a second yes counts", func() bool { // not before two seconds are over
		seen := c.tap("boss1", card, "approve")
		return seen.Toast != nil && seen.Toast.Type == "success"
	})
	c.shop.untilAsked(patience, sale(5), "allowed by the service itself", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })
	d := c.server.effect("ALLOW", sale(5))
	await(t, patience, "the record of what was opened says so", func() bool {
		records := c.server.must(http.StatusOK, call{as: "auditor", path: "/api/v1/audit?tenant=acme&kind=decision&limit=50"})
		return strings.Contains(records.text, d.ID) && strings.Contains(records.text, `"break_glass":true`)
	})
}

const slowTemplate = `title: {en: Something dear, zh: 贵重物品}
decide_by: 9s
grant_for: {default: 1h, ceiling: 1h}
notify: [{channel: feishu, to: "chat:oc_desk"}]
all_of:
  - {name: bosses, title: {en: Bosses, zh: 主管}, role: boss, approvals: 1}
escalate:
  - {after: 1s, remind: true}
  - {after: 2s, group: bosses, switch: {role: visitor}}
`

// While the bosses do not answer, others may; and what nobody answers ends
// shut.
func TestEscalationInFeishu(t *testing.T) {
	for _, way := range []string{"callback", "connection"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			openCompany(t, way, slowTemplate).escalates()
		})
	}
}

func (c *company) escalates() {
	t := c.t
	t.Helper()
	c.shop.ask(sale(5))
	card := c.card("a case is open", open)
	if seen := c.tap("guest", card, "approve"); seen.Toast == nil || seen.Toast.Type == "success" {
		t.Errorf("a visitor before it is their turn sees %q, %+v", seen.Error, seen.Toast)
	}
	await(t, patience, "a visitor may answer", func() bool {
		seen := c.tap("guest", card, "approve")
		return seen.Toast != nil && seen.Toast.Type == "success"
	})
	c.shop.untilAsked(patience, sale(5), "allowed by a visitor", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })

	c.shop.ask(sale(6))
	c.card("a case that nobody answers", func(v feishu.View) bool { return open(v) && shows(v, "price = 6") })
	c.card("it ended", func(v feishu.View) bool { return !open(v) && shows(v, "price = 6", "Expired") })
	if a := c.shop.ask(sale(6)); a.Effect != "REVIEW" {
		t.Errorf("after nobody answered: %+v", a)
	}
}
