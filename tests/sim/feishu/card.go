package feishu

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

const (
	maxCard     = 30 << 10  // bytes
	maxText     = 150 << 10 // bytes
	maxElements = 200
)

// card is a card's definition, checked.
type card struct {
	text    string
	root    map[string]any
	schema2 bool
}

// cardError is what is wrong with a card; the code stands inside of 230099.
type cardError struct {
	code int
	msg  string
}

func (e *cardError) failure() *failure {
	return refuse(400, 230099, "Failed to create card content, ext=ErrCode: %d; ErrMsg: %s; ", e.code, e.msg)
}

func malformed(format string, args ...any) *cardError {
	return &cardError{code: 200621, msg: "parse card json err, " + fmt.Sprintf(format, args...)}
}

// What a card of schema 2.0 may contain. Attributes of other elements are not
// listed here and not checked.
var (
	rootAttributes   = []string{"schema", "config", "card_link", "header", "body"}
	configAttributes = []string{"streaming_mode", "streaming_config", "summary", "locales", "enable_forward", "enable_forward_interaction", "update_multi", "width_mode", "use_custom_translation", "style"}
	headerAttributes = []string{"title", "subtitle", "text_tag_list", "i18n_text_tag_list", "template", "icon", "padding"}
	bodyAttributes   = []string{"direction", "padding", "horizontal_spacing", "horizontal_align", "vertical_spacing", "vertical_align", "elements"}
	buttonAttributes = []string{"tag", "element_id", "margin", "type", "size", "width", "text", "icon", "hover_tips", "disabled", "disabled_tips", "confirm", "behaviors", "value", "url", "multi_url", "name", "required", "form_action_type"}
	textAttributes   = []string{"tag", "element_id", "content", "i18n_content", "text_size", "text_color", "text_align", "lines", "icon"}
	templates        = []string{"blue", "wathet", "turquoise", "green", "yellow", "orange", "red", "carmine", "violet", "purple", "indigo", "grey", "default"}

	tags2 = []string{"column_set", "column", "form", "interactive_container", "collapsible_panel", "div", "markdown", "img", "img_combination", "person", "person_list", "chart", "table", "audio", "hr", "input", "button", "overflow", "select_static", "multi_select_static", "select_person", "multi_select_person", "date_picker", "picker_time", "picker_datetime", "select_img", "checker"}
	tags1 = append([]string{"action", "note"}, tags2...)

	// filled are the elements whose values a form sends.
	filled = []string{"input", "select_static", "multi_select_static", "select_person", "multi_select_person", "date_picker", "picker_time", "picker_datetime", "select_img", "checker"}

	elementID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,19}$`)
)

func parseCard(text string) (*card, *cardError) {
	c := &card{text: text}
	if err := json.Unmarshal([]byte(text), &c.root); err != nil || c.root == nil {
		return nil, malformed("the card is not an object")
	}
	switch schema := c.root["schema"]; schema {
	case "2.0":
		c.schema2 = true
		return c, c.check2()
	case nil, "1.0":
		return c, c.check1()
	default:
		return nil, malformed("schema %v is not supported", schema)
	}
}

// check1 knows little of the old structure: that there is something in it, and
// which tags there are. Attributes it does not know are ignored, as they were.
func (c *card) check1() *cardError {
	if c.root["elements"] == nil && c.root["i18n_elements"] == nil && c.root["header"] == nil {
		return malformed("there are neither elements nor a header")
	}
	return c.checkElements(tags1)
}

func (c *card) check2() *cardError {
	if err := only("card", c.root, rootAttributes); err != nil {
		return err
	}
	for name, allowed := range map[string][]string{"config": configAttributes, "header": headerAttributes, "body": bodyAttributes} {
		part, ok := c.root[name].(map[string]any)
		if !ok && c.root[name] != nil {
			return malformed("%s is not an object", name)
		}
		if err := only(name, part, allowed); err != nil {
			return err
		}
	}
	if multi, ok := c.config("update_multi").(bool); ok && !multi {
		return malformed("update_multi can only be true")
	}
	if header, ok := c.root["header"].(map[string]any); ok {
		if err := checkText("header.title", header["title"], true); err != nil {
			return err
		}
		if err := checkText("header.subtitle", header["subtitle"], false); err != nil {
			return err
		}
		if t, given := header["template"]; given && !slices.Contains(templates, fmt.Sprint(t)) {
			return malformed("header.template %v", t)
		}
	}
	body, _ := c.root["body"].(map[string]any)
	if _, ok := body["elements"].([]any); !ok {
		return malformed("body.elements is not a list")
	}
	return c.checkElements(tags2)
}

func (c *card) checkElements(tags []string) *cardError {
	ids := map[string]bool{}
	names := map[string]bool{}
	count := 0
	return c.walk(func(e element) *cardError {
		count++
		tag, _ := e.m["tag"].(string)
		if !slices.Contains(tags, tag) || tag == "column" && e.parent != "column_set" {
			return malformed("not supported tag: %q", tag)
		}
		if count > maxElements {
			return &cardError{code: 11310, msg: "element exceeds the limit"}
		}
		if id, given := e.m["element_id"]; given {
			text, _ := id.(string)
			if !elementID.MatchString(text) || ids[text] {
				return malformed("element_id %v", id)
			}
			ids[text] = true
		}
		if e.form != nil && (slices.Contains(filled, tag) || tag == "button") {
			name, _ := e.m["name"].(string)
			if name == "" || names[name] {
				return &cardError{code: 200530, msg: fmt.Sprintf("name %q of an element in a form is empty or used twice", name)}
			}
			names[name] = true
		}
		if !c.schema2 {
			return nil
		}
		switch tag {
		case "button":
			return checkButton(e)
		case "form":
			if name, _ := e.m["name"].(string); name == "" || names[name] {
				return &cardError{code: 200530, msg: "name of a form is empty or used twice"}
			}
		case "markdown":
			if _, ok := e.m["content"].(string); !ok {
				return malformed("markdown without content")
			}
		case "div":
			return checkText("div.text", e.m["text"], true)
		}
		return nil
	})
}

func checkButton(e element) *cardError {
	if err := only("button", e.m, buttonAttributes); err != nil {
		return err
	}
	if err := checkText("button.text", e.m["text"], e.m["icon"] == nil); err != nil {
		return err
	}
	if value, given := e.m["value"]; given {
		if _, ok := value.(map[string]any); !ok {
			return malformed("button.value is not an object")
		}
	}
	behaviors, ok := e.m["behaviors"].([]any)
	if !ok && e.m["behaviors"] != nil {
		return malformed("button.behaviors is not a list")
	}
	for _, b := range behaviors {
		behavior, _ := b.(map[string]any)
		switch behavior["type"] {
		case "callback":
			if _, ok := behavior["value"].(map[string]any); !ok {
				return malformed("the value of a callback is not an object")
			}
		case "open_url":
			if behavior["default_url"] == nil && behavior["pc_url"] == nil {
				return malformed("open_url without default_url")
			}
		default:
			return malformed("button.behaviors type %v", behavior["type"])
		}
	}
	if action, given := e.m["form_action_type"]; given && (e.form == nil || action != "submit" && action != "reset") {
		return malformed("form_action_type %v", action)
	}
	return nil
}

func checkText(name string, v any, required bool) *cardError {
	if v == nil && !required {
		return nil
	}
	text, ok := v.(map[string]any)
	if !ok {
		return malformed("%s is not a text object", name)
	}
	if tag := text["tag"]; tag != "plain_text" && tag != "lark_md" {
		return malformed("not supported tag: %v of %s", tag, name)
	}
	if _, ok := text["content"].(string); !ok {
		return malformed("%s without content", name)
	}
	return only(name, text, textAttributes)
}

func only(name string, part map[string]any, allowed []string) *cardError {
	for _, attribute := range slices.Sorted(maps.Keys(part)) {
		if !slices.Contains(allowed, attribute) {
			return malformed("unknown property, property: %s.%s", name, attribute)
		}
	}
	return nil
}

// config returns one attribute of the card's config, or nil.
func (c *card) config(name string) any {
	config, _ := c.root["config"].(map[string]any)
	return config[name]
}

// shared reports whether the card says of itself that all see its updates.
func (c *card) shared() bool { return c.config("update_multi") == true }

// element is one element of a card, where it stands.
type element struct {
	m      map[string]any
	parent string         // the tag of what it stands in; empty at the top
	form   map[string]any // the form it stands in, or nil
}

// walk visits all elements in the order in which they are shown, until an error.
func (c *card) walk(visit func(element) *cardError) *cardError {
	top := c.root["elements"]
	if c.schema2 {
		body, _ := c.root["body"].(map[string]any)
		top = body["elements"]
	}
	return walkList(top, "", nil, visit)
}

func walkList(v any, parent string, form map[string]any, visit func(element) *cardError) *cardError {
	list, ok := v.([]any)
	if !ok && v != nil {
		return malformed("elements of %q is not a list", parent)
	}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return malformed("an element of %q is not an object", parent)
		}
		if err := visit(element{m: m, parent: parent, form: form}); err != nil {
			return err
		}
		tag, _ := m["tag"].(string)
		inner := form
		if tag == "form" {
			if form != nil {
				return malformed("a form stands in a form")
			}
			inner = m
		}
		for _, children := range []string{"elements", "columns", "actions"} {
			if tag == "note" || m[children] == nil {
				continue
			}
			if err := walkList(m[children], tag, inner, visit); err != nil {
				return err
			}
		}
	}
	return nil
}
