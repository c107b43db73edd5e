package world

import (
	"context"
	"encoding/json"
	"net/http"
)

// Verb serves one function over HTTP: the body of the request is its argument
// in JSON, and the answer its result; an error is answered with status 400 and
// {"error": "…"}. Unknown fields are refused.
func Verb[In, Out any](do func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fail := func(err error) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		}
		var in In
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil {
			fail(err)
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			fail(err)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
}

// Act is [Verb] for a function without a result; it answers {}.
func Act[In any](do func(context.Context, In) error) http.Handler {
	return Verb(func(ctx context.Context, in In) (struct{}, error) { return struct{}{}, do(ctx, in) })
}
