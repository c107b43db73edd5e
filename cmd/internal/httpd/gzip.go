package httpd

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
)

// unpack returns what was packed, at most limit bytes of it.
func unpack(packed []byte, limit int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(plain)) > limit {
		return nil, fmt.Errorf("compressed request body too large: it unpacks to more than %d bytes", limit)
	}
	return plain, nil
}

func pack(plain []byte) ([]byte, error) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// acceptsGzip reads an Accept-Encoding header (RFC 9110 §12.5.3).
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(part, ";")
		weight = strings.ReplaceAll(strings.TrimSpace(weight), " ", "")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" {
			return true
		}
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && weight == "" {
			return true
		}
	}
	return false
}
