package authz

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Entity is a subject or a resource: a type, an id within it, and properties
// (an object, or null for none).
type Entity struct {
	Type       string
	ID         string
	Properties Value
}

// Action is what the subject wants to do. Properties is an object or null.
type Action struct {
	Name       string
	Properties Value
}

// Request is one question: may this subject do this action on this resource?
// It is AuthZEN's information model plus the tenant. Context is an object or
// null.
type Request struct {
	Tenant   string
	Subject  Entity
	Action   Action
	Resource Entity
	Context  Value

	read Value // what RequestOf was given; Value returns the parts of it that still hold
}

// The longest names that a request may carry, in bytes.
const (
	MaxTenantLength = 63
	MaxNameLength   = 256
	MaxIDLength     = 1024
)

// Validate checks the shape of the request. Errors are [*FieldError]s.
func (r *Request) Validate() error {
	if err := ValidTenant(r.Tenant); err != nil {
		return &FieldError{Path: "/tenant", Detail: err.Error()}
	}
	if err := r.Subject.validate("/subject"); err != nil {
		return err
	}
	if err := validName(r.Action.Name); err != nil {
		return &FieldError{Path: "/action/name", Detail: err.Error()}
	}
	if err := objectOrNull(r.Action.Properties); err != nil {
		return &FieldError{Path: "/action/properties", Detail: err.Error()}
	}
	if err := r.Resource.validate("/resource"); err != nil {
		return err
	}
	if err := objectOrNull(r.Context); err != nil {
		return &FieldError{Path: "/context", Detail: err.Error()}
	}
	return nil
}

func (e *Entity) validate(path string) error {
	if err := validName(e.Type); err != nil {
		return &FieldError{Path: path + "/type", Detail: err.Error()}
	}
	if err := validID(e.ID); err != nil {
		return &FieldError{Path: path + "/id", Detail: err.Error()}
	}
	if err := objectOrNull(e.Properties); err != nil {
		return &FieldError{Path: path + "/properties", Detail: err.Error()}
	}
	return nil
}

// ValidTenant checks a tenant's name: lower-case letters, digits and hyphens,
// beginning and ending with a letter or digit, at most 63 bytes.
func ValidTenant(name string) error {
	if name == "" {
		return fmt.Errorf("a tenant is required")
	}
	if len(name) > MaxTenantLength {
		return fmt.Errorf("longer than %d bytes", MaxTenantLength)
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (c != '-' || i == 0 || i == len(name)-1) {
			return fmt.Errorf("%q: want lower-case letters, digits and inner hyphens", name)
		}
	}
	return nil
}

func validName(name string) error {
	if name == "" {
		return fmt.Errorf("required and not empty")
	}
	if len(name) > MaxNameLength {
		return fmt.Errorf("longer than %d bytes", MaxNameLength)
	}
	for i := range len(name) {
		if !inName[name[i]] {
			return fmt.Errorf("%q: want letters, digits and ._-:/", name)
		}
	}
	return nil
}

// inName are the bytes of names.
var inName = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-:/", rune(c))
	}
	return is
}()

func validID(id string) error {
	if id == "" {
		return fmt.Errorf("required and not empty")
	}
	if len(id) > MaxIDLength {
		return fmt.Errorf("longer than %d bytes", MaxIDLength)
	}
	if plain(id) {
		return nil
	}
	if !utf8.ValidString(id) {
		return fmt.Errorf("not valid UTF-8")
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return fmt.Errorf("contains the control character %U", r)
		}
	}
	return nil
}

// plain reports whether text is visible ASCII.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

func objectOrNull(v Value) error {
	if k := v.Kind(); k != KindObject && k != KindNull {
		return fmt.Errorf("want an object, not a %s", k)
	}
	return nil
}

// RequestOf reads a request strictly from an object: an unknown member, a
// wrong type, or a subject or resource in short form is a [*FieldError].
// An action may be a string, short for {"name": …}. Members named in extra
// are left to the caller.
func RequestOf(v Value, extra ...string) (Request, error) {
	r := Request{read: v}
	if v.Kind() != KindObject {
		return Request{}, &FieldError{Detail: fmt.Sprintf("want an object, not a %s", v.Kind())}
	}
	for i := range v.Len() {
		name, member := v.Name(i), v.Index(i)
		var err error
		switch name {
		case "tenant":
			r.Tenant, err = textOf(member)
		case "subject":
			r.Subject, err = entityOf(member)
		case "action":
			r.Action, err = actionOf(member)
		case "resource":
			r.Resource, err = entityOf(member)
		case "context":
			r.Context, err = member, objectNotNull(member)
		default:
			err = unknownUnless(extra, name)
		}
		if err != nil {
			return Request{}, Under(err, "/"+escapePointer(name))
		}
	}
	return r, r.Validate()
}

func unknownUnless(known []string, name string) error {
	for _, k := range known {
		if k == name {
			return nil
		}
	}
	return fmt.Errorf("unknown member")
}

func entityOf(v Value) (Entity, error) {
	var e Entity
	if err := objectNotNull(v); err != nil {
		return e, err
	}
	for i := range v.Len() {
		name, member := v.Name(i), v.Index(i)
		var err error
		switch name {
		case "type":
			e.Type, err = textOf(member)
		case "id":
			e.ID, err = textOf(member)
		case "properties":
			e.Properties, err = member, objectNotNull(member)
		default:
			err = fmt.Errorf("unknown member")
		}
		if err != nil {
			return Entity{}, Under(err, "/"+escapePointer(name))
		}
	}
	return e, nil
}

func actionOf(v Value) (Action, error) {
	var a Action
	if v.Kind() == KindString {
		return Action{Name: v.Text()}, nil
	}
	if err := objectNotNull(v); err != nil {
		return a, err
	}
	for i := range v.Len() {
		name, member := v.Name(i), v.Index(i)
		var err error
		switch name {
		case "name":
			a.Name, err = textOf(member)
		case "properties":
			a.Properties, err = member, objectNotNull(member)
		default:
			err = fmt.Errorf("unknown member")
		}
		if err != nil {
			return Action{}, Under(err, "/"+escapePointer(name))
		}
	}
	return a, nil
}

func textOf(v Value) (string, error) {
	if v.Kind() != KindString {
		return "", fmt.Errorf("want a string, not a %s", v.Kind())
	}
	return v.Text(), nil
}

func objectNotNull(v Value) error {
	if v.Kind() != KindObject {
		return fmt.Errorf("want an object, not a %s", v.Kind())
	}
	return nil
}
