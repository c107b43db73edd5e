package httpd

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// decode reads the body of one of our doors into a struct: every member must
// be known, of its type, given once, and not null unless the field is a
// pointer. Errors are [*authz.FieldError]s.
func decode[T any](c *call) (T, error) {
	var body T
	data, err := c.body()
	if err != nil {
		return body, err
	}
	// One parser settles what is JSON, how deep and how large its numbers.
	if _, err := authz.Parse(data); err != nil {
		return body, err
	}
	if err := json.Unmarshal(data, &body, json.RejectUnknownMembers(true), json.WithUnmarshalers(noNulls)); err != nil {
		return body, decodeError(err)
	}
	return body, nil
}

var errNull = errors.New("must not be null")

// noNulls refuses null where Go would silently take the zero value.
var noNulls = json.UnmarshalFromFunc(func(d *jsontext.Decoder, target any) error {
	if d.PeekKind() != 'n' {
		return errors.ErrUnsupported
	}
	if _, free := target.(*authz.Value); free || reflect.TypeOf(target).Elem().Kind() == reflect.Pointer {
		return errors.ErrUnsupported
	}
	return errNull
})

// decodeError names the place and, where a type does not fit, both types.
func decodeError(err error) error {
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) {
		return &authz.FieldError{Detail: err.Error()}
	}
	path := string(wrong.JSONPointer)
	var field *authz.FieldError
	switch {
	case errors.As(wrong.Err, &field):
		return &authz.FieldError{Path: path + field.Path, Detail: field.Detail}
	case errors.Is(wrong.Err, json.ErrUnknownName):
		return &authz.FieldError{Path: path, Detail: "unknown member"}
	case wrong.Err != nil && wrong.JSONKind != '0':
		return &authz.FieldError{Path: path, Detail: wrong.Err.Error()}
	default:
		return &authz.FieldError{Path: path, Detail: fmt.Sprintf("want %s, not a %s", wanted(wrong.GoType), wrong.JSONKind)}
	}
}

func wanted(t reflect.Type) string {
	if t == nil {
		return "another type"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "an integer"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "another type"
	}
}

// pointer builds a JSON pointer.
func pointer(steps ...string) string {
	var b strings.Builder
	for _, step := range steps {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
	}
	return b.String()
}
