package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// asking is the server asked with query parameters.
func (r *remote) asking(query url.Values) *remote {
	base := *r.base
	base.RawQuery = query.Encode()
	asked := *r
	asked.base = &base
	return &asked
}

// get reads one answer into out.
func (r *remote) get(ctx context.Context, path string, query url.Values, out any) error {
	answer, err := r.asking(query).call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return decodeAnswer(answer, out)
}

// send makes a change and reads the answer into out.
func (r *remote) send(ctx context.Context, method, path string, body, out any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	answer, err := r.call(ctx, method, path, data)
	if err != nil {
		return err
	}
	return decodeAnswer(answer, out)
}

func decodeAnswer(answer []byte, out any) error {
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the server's answer is not what this version expects: %w", err)
	}
	return nil
}

// pageLimit is how many items a list call asks for at once.
const pageLimit = 100

// listAll reads a list to its end, or to limit items (0: all).
func listAll[T any](ctx context.Context, r *remote, path string, query url.Values, limit int) ([]T, error) {
	all := []T{}
	for {
		want := pageLimit
		if limit > 0 {
			want = min(want, limit-len(all))
		}
		query.Set("limit", strconv.Itoa(want))
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next_cursor"`
		}
		if err := r.get(ctx, path, query, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}
