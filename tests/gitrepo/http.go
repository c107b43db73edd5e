package gitrepo

import (
	"io"
	"net/http"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
)

// Handler serves the bare repository at /policies.git as git's smart HTTP
// protocol has it, for reading.
func (r *Repository) Handler() http.Handler {
	mux := http.NewServeMux()
	session := func() (transport.UploadPackSession, error) {
		return server.NewServer(server.NewFilesystemLoader(osfs.New("/"))).NewUploadPackSession(&transport.Endpoint{Path: r.Remote}, nil)
	}
	fail := func(w http.ResponseWriter, err error) bool {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return err != nil
	}
	mux.HandleFunc("GET /policies.git/info/refs", func(w http.ResponseWriter, q *http.Request) {
		s, err := session()
		if fail(w, err) {
			return
		}
		refs, err := s.AdvertisedReferencesContext(q.Context())
		if fail(w, err) {
			return
		}
		refs.Prefix = [][]byte{[]byte("# service=git-upload-pack"), {}}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_ = refs.Encode(w) // the client sees a short answer
	})
	mux.HandleFunc("POST /policies.git/git-upload-pack", func(w http.ResponseWriter, q *http.Request) {
		s, err := session()
		if fail(w, err) {
			return
		}
		request := packp.NewUploadPackRequest()
		if fail(w, request.UploadRequest.Decode(q.Body)) {
			return
		}
		_, _ = io.Copy(io.Discard, q.Body) // haves: everything is sent
		response, err := s.UploadPack(q.Context(), request)
		if fail(w, err) {
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		_ = response.Encode(w) // the client sees a short answer
	})
	return mux
}
