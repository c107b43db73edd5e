package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// Authors are those who wrote the files of rules as they were published last:
// they do not answer for what their own rules ask. A file that came from a
// repository has its publisher.
func (s *Store) Authors(ctx context.Context, rules []pdp.Obstacle) (authors []cheq.Person, err error) {
	var files []string
	for _, rule := range rules {
		if !slices.Contains(files, rule.Rule.File) {
			files = append(files, rule.Rule.File)
		}
	}
	err = s.config.Store.View(ctx, func(tx pap.Tx) error {
		authors = nil
		for _, file := range files {
			doc, err := published(tx, file)
			if errors.Is(err, pap.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("who wrote %s: %w", file, err)
			}
			authors = append(authors, cheq.Person{Name: doc.UpdatedBy})
			if doc.Tenant != "" {
				authors = append(authors, cheq.Person{Tenant: doc.Tenant, Name: doc.UpdatedBy})
			}
		}
		return nil
	})
	return authors, err
}

// maxVersions bounds the drafts that are looked through.
const maxVersions = 1000

// published is a document's newest version that was published.
func published(tx pap.Tx, path string) (pap.Document, error) {
	doc, err := tx.Document(path)
	if err != nil || doc.Release != 0 {
		return doc, err
	}
	versions, err := tx.DocumentVersions(path, 0, maxVersions)
	if err != nil {
		return pap.Document{}, err
	}
	for _, v := range slices.Backward(versions) {
		if v.Path == path && v.Release != 0 {
			return v, nil
		}
	}
	return pap.Document{}, pap.ErrNotFound
}
