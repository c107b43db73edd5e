package pap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// MaxDocumentBytes bounds one document written through the API.
const MaxDocumentBytes = 1 << 20

// Place says whose a file of the repository is: its layer ("platform", "self"
// or "tenant") and tenant. What is shared by all (tables, attributes, schemas,
// approval templates) is the platform's.
func Place(path string) (layer, tenant string, err error) {
	if err := bundles.ValidPath(path); err != nil {
		return "", "", err
	}
	first, rest, nested := strings.Cut(path, "/")
	switch {
	case first == "self" && nested:
		return "self", "", nil
	case first == "tenants":
		tenant, name, ok := strings.Cut(rest, "/")
		if !ok || name == "" || authz.ValidTenant(tenant) != nil {
			return "", "", fmt.Errorf("path %q: want tenants/<tenant>/<file>", path)
		}
		return "tenant", tenant, nil
	case nested && slices.Contains([]string{"platform", "tables", "approvals", "examples"}, first), !nested:
		return "platform", "", nil
	default:
		return "", "", fmt.Errorf("path %q: want platform/…, self/…, tenants/<tenant>/…, tables/…, approvals/…, examples/… or a file of the root", path)
	}
}

// PutDocument writes a draft (X3). ifVersion is the version that the writer has
// read: 0 for a document that must not exist yet. Needs policy.write where the
// document belongs. A draft changes no answer until it is published.
func (s *Service) PutDocument(ctx context.Context, actor Actor, path string, content []byte, ifVersion int64) (Document, error) {
	return s.writeDocument(ctx, actor, Document{Path: path, Content: content}, ifVersion)
}

// DeleteDocument writes a draft that removes the file when it is published.
func (s *Service) DeleteDocument(ctx context.Context, actor Actor, path string, ifVersion int64) (Document, error) {
	if ifVersion == 0 {
		return Document{}, ErrNotFound
	}
	return s.writeDocument(ctx, actor, Document{Path: path, Deleted: true}, ifVersion)
}

func (s *Service) writeDocument(ctx context.Context, actor Actor, doc Document, ifVersion int64) (Document, error) {
	var err error
	if doc.Layer, doc.Tenant, err = Place(doc.Path); err != nil {
		return Document{}, field("/path", "%v", err)
	}
	if err := actor.May(ctx, "policy.write", rightsTenant(doc.Tenant)); err != nil {
		return Document{}, err
	}
	if len(doc.Content) > MaxDocumentBytes {
		return Document{}, field("/content", "%d bytes: a document holds at most %d", len(doc.Content), MaxDocumentBytes)
	}
	if !utf8.Valid(doc.Content) {
		return Document{}, field("/content", "not valid UTF-8")
	}
	doc.Draft, doc.UpdatedBy, doc.UpdatedAt = true, actor.Name, s.Now().UTC()
	action := "policy.write"
	if doc.Deleted {
		action = "policy.delete"
	}
	_, err = s.change(ctx, actor, auditEntry{action, doc.Tenant, "policy:" + doc.Path, map[string]any{"if_version": ifVersion}}, func(tx Tx) error {
		newest, err := tx.Document(doc.Path)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		exists := err == nil && !newest.Deleted
		switch {
		case ifVersion == 0 && exists:
			return fmt.Errorf("document %s: %w", doc.Path, ErrConflict)
		case ifVersion != 0 && !exists:
			return fmt.Errorf("document %s: %w", doc.Path, ErrNotFound)
		case ifVersion != 0 && newest.Version != ifVersion:
			return fmt.Errorf("document %s is at version %d, not %d: %w", doc.Path, newest.Version, ifVersion, ErrVersion)
		}
		doc.Version = newest.Version + 1
		return tx.PutDocument(doc)
	})
	return doc, err
}

// Document returns the newest version. Needs policy.read where it belongs.
func (s *Service) Document(ctx context.Context, actor Actor, path string) (Document, error) {
	_, tenant, err := Place(path)
	if err != nil {
		return Document{}, ErrNotFound
	}
	if err := actor.May(ctx, "policy.read", rightsTenant(tenant)); err != nil {
		return Document{}, hide(actor, tenant, err)
	}
	var doc Document
	err = s.Store.View(ctx, func(tx Tx) error {
		doc, err = tx.Document(path)
		if err == nil && doc.Deleted {
			return fmt.Errorf("document %s: %w", path, ErrNotFound)
		}
		return err
	})
	return doc, err
}

// Documents lists documents by path: a tenant's, or for the platform's readers
// all that filter selects.
func (s *Service) Documents(ctx context.Context, actor Actor, filter DocumentFilter, after string, limit int) (Page[Document], error) {
	if actor.Tenant != "" {
		filter.Tenant, filter.Layer = actor.Tenant, "tenant"
	}
	if err := actor.May(ctx, "policy.read", rightsTenant(actor.Tenant)); err != nil {
		return Page[Document]{}, err
	}
	var page Page[Document]
	err := s.Store.View(ctx, func(tx Tx) error {
		docs, err := tx.Documents(filter, after, limit+1)
		if len(docs) > limit {
			docs = docs[:limit]
			page.Next = docs[limit-1].Path
		}
		page.Items = docs
		return err
	})
	return page, err
}
