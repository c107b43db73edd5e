package feishu

import (
	"errors"
	"fmt"
	"slices"
)

// View is a card as one person sees it, in the language of the person's client.
type View struct {
	Title    string   `json:"title"`
	Subtitle string   `json:"subtitle"`
	Template string   `json:"template"` // the colour of its head
	Texts    []string `json:"texts"`    // its texts, from top to bottom; Markdown is not rendered
	Buttons  []Button `json:"buttons"`
	Fields   []Field  `json:"fields"` // what can be filled in
	Content  string   `json:"content"`
}

// Button is one button of a card.
type Button struct {
	Text     string         `json:"text"`
	Name     string         `json:"name"`
	ID       string         `json:"id"`   // its element_id
	Form     string         `json:"form"` // the form it submits
	Disabled bool           `json:"disabled"`
	URL      string         `json:"url"`      // what it opens
	Value    map[string]any `json:"value"`    // what it sends to the app
	Callback bool           `json:"callback"` // whether a tap goes to the app
	submits  map[string]any
}

// Field is one element of a card that takes a value.
type Field struct {
	Tag      string `json:"tag"`
	Name     string `json:"name"`
	Label    string `json:"label"`
	Form     string `json:"form"`
	Required bool   `json:"required"`
}

// Card returns what a person sees of a card.
func (s *Sim) Card(user, messageID string) (View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, u, err := s.visible(user, messageID)
	if err != nil {
		return View{}, err
	}
	return m.cardOf(user).view(u.Language), nil
}

// visible finds a card that a person has before the eyes.
func (s *Sim) visible(user, messageID string) (*message, User, error) {
	u, ok := s.users[user]
	if !ok {
		return nil, User{}, fmt.Errorf("there is no user %q", user)
	}
	m := s.messages[messageID]
	switch {
	case m == nil || m.card == nil:
		return nil, User{}, fmt.Errorf("there is no card %q", messageID)
	case !slices.Contains(s.chats[m.ChatID].Members, user):
		return nil, User{}, fmt.Errorf("%s is not in the chat of the card", user)
	case m.Recalled:
		return nil, User{}, errors.New("the card was recalled")
	}
	return m, u, nil
}

func (m *message) cardOf(user string) *card {
	if own := m.own[user]; own != nil {
		return own
	}
	return m.card
}

func (c *card) view(language string) View {
	v := View{Content: c.text}
	if header, ok := c.root["header"].(map[string]any); ok {
		v.Title = localized(header["title"], language)
		v.Subtitle = localized(header["subtitle"], language)
		v.Template, _ = header["template"].(string)
	}
	_ = c.walk(func(e element) *cardError { // it was checked when it came
		form, _ := e.form["name"].(string)
		name, _ := e.m["name"].(string)
		switch tag, _ := e.m["tag"].(string); {
		case tag == "button":
			v.Buttons = append(v.Buttons, button(e, language))
		case slices.Contains(filled, tag):
			required, _ := e.m["required"].(bool)
			label := localized(e.m["label"], language)
			if label == "" {
				label = localized(e.m["placeholder"], language)
			}
			v.Fields = append(v.Fields, Field{Tag: tag, Name: name, Label: label, Form: form, Required: required})
		case tag == "markdown":
			v.Texts = append(v.Texts, localized(e.m, language))
		case tag == "div":
			v.Texts = append(v.Texts, localized(e.m["text"], language))
			fields, _ := e.m["fields"].([]any)
			for _, f := range fields {
				field, _ := f.(map[string]any)
				v.Texts = append(v.Texts, localized(field["text"], language))
			}
		case tag == "note":
			notes, _ := e.m["elements"].([]any)
			for _, n := range notes {
				v.Texts = append(v.Texts, localized(n, language))
			}
		case tag == "collapsible_panel":
			if header, ok := e.m["header"].(map[string]any); ok {
				v.Texts = append(v.Texts, localized(header["title"], language))
			}
		}
		return nil
	})
	return v
}

func button(e element, language string) Button {
	b := Button{Text: localized(e.m["text"], language)}
	b.Name, _ = e.m["name"].(string)
	b.ID, _ = e.m["element_id"].(string)
	b.Disabled, _ = e.m["disabled"].(bool)
	b.URL, _ = e.m["url"].(string)
	b.Value, b.Callback = e.m["value"].(map[string]any)
	behaviors, _ := e.m["behaviors"].([]any)
	for _, item := range behaviors {
		behavior, _ := item.(map[string]any)
		switch behavior["type"] {
		case "callback":
			b.Value, b.Callback = behavior["value"].(map[string]any)
		case "open_url":
			b.URL, _ = behavior["default_url"].(string)
		}
	}
	if e.m["form_action_type"] == "submit" || e.m["action_type"] == "form_submit" {
		b.Form, _ = e.form["name"].(string)
		b.Callback, b.submits = true, e.form
	}
	return b
}

// localized returns a text in the language of a client, or as it is where the
// card has no such translation.
func localized(v any, language string) string {
	text, _ := v.(map[string]any)
	for _, attribute := range []string{"i18n_content", "i18n"} {
		translations, _ := text[attribute].(map[string]any)
		if t, ok := translations[locale(language)].(string); ok {
			return t
		}
	}
	content, _ := text["content"].(string)
	return content
}

func locale(language string) string {
	if language == "en" {
		return "en_us"
	}
	return "zh_cn"
}
