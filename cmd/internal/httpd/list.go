package httpd

import "github.com/xiezhi-project/xiezhi/pap"

// listJSON is one page of a list.
type listJSON[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor,omitempty"`
}

// pageOf converts a page item by item.
func pageOf[T, J any](page pap.Page[T], convert func(T) J) listJSON[J] {
	list := listJSON[J]{Items: make([]J, len(page.Items)), Next: page.Next}
	for i := range page.Items {
		list.Items[i] = convert(page.Items[i])
	}
	return list
}

func itself[T any](v T) T { return v }
