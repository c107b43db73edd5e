package builtin

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"unsafe"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var encodings = table{
	ast.Base64Encode.Name:         encoder(base64.StdEncoding.AppendEncode),
	ast.Base64UrlEncode.Name:      encoder(base64.URLEncoding.AppendEncode),
	ast.Base64UrlEncodeNoPad.Name: encoder(base64.RawURLEncoding.AppendEncode),
	ast.HexEncode.Name:            encoder(hex.AppendEncode),
	ast.Base64Decode.Name:         decoder(base64.StdEncoding.AppendDecode),
	ast.HexDecode.Name:            decoder(hex.AppendDecode),
	ast.Base64UrlDecode.Name:      text1(decodeBase64URL),
	ast.Base64IsValid.Name: func(c *Call, args []value.Value) (value.Value, error) {
		if args[0].Kind() != value.String {
			return ofBool(false)
		}
		text, err := base64.StdEncoding.AppendDecode(c.text[:0], bytesOf(args[0].Text()))
		c.text = text[:0]
		return ofBool(err == nil)
	},
	ast.URLQueryEncode.Name: text1(func(c *Call, s string) (value.Value, error) { return c.changed(s, url.QueryEscape(s)) }),
	ast.URLQueryDecode.Name: text1(func(c *Call, s string) (value.Value, error) {
		decoded, err := url.QueryUnescape(s)
		if err != nil {
			return ask()
		}
		return c.changed(s, decoded)
	}),
	ast.JSONMarshal.Name: func(c *Call, args []value.Value) (value.Value, error) {
		if size := written(args[0], mostJSON); size > mostJSON || !c.holds(size) {
			return full()
		}
		text, err := value.AppendJSON(c.text[:0], args[0])
		switch {
		case len(text) > value.MaxJSON:
			return full()
		case err != nil:
			return ask()
		}
		return c.made(text)
	},
	ast.JSONIsValid.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return ofBool(args[0].Kind() == value.String && json.Valid(bytesOf(args[0].Text())))
	},
}

// bytesOf returns the bytes of a text, which must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func encoder(f func(to, from []byte) []byte) Func {
	return text1(func(c *Call, s string) (value.Value, error) { return c.made(f(c.text[:0], bytesOf(s))) })
}

type decodeFunc func(to, from []byte) ([]byte, error)

func decoder(f decodeFunc) Func {
	return text1(func(c *Call, s string) (value.Value, error) { return c.decoded(s, f) })
}

func (c *Call) decoded(s string, f decodeFunc) (value.Value, error) {
	text, err := f(c.text[:0], bytesOf(s))
	if err != nil {
		return ask()
	}
	return c.made(text)
}

var (
	decodePadded   decodeFunc = base64.URLEncoding.AppendDecode
	decodeUnpadded decodeFunc = base64.RawURLEncoding.AppendDecode
)

// decodeBase64URL takes texts with and without padding. The decoders skip line
// ends, which OPA counts.
func decodeBase64URL(c *Call, s string) (value.Value, error) {
	switch {
	case strings.ContainsAny(s, "\r\n"):
		return ask()
	case len(s)%4 == 0 || strings.HasSuffix(s, "="):
		return c.decoded(s, decodePadded)
	}
	return c.decoded(s, decodeUnpadded)
}
