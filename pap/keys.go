package pap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// keysKey is the key of the one record of kind [KindKeys].
const keysKey = "keys"

// Keys returns the newest key set that any node has stored, or ErrNotFound.
func (s *Service) Keys(ctx context.Context) (SignedKeys, error) {
	var keys SignedKeys
	err := s.Store.View(ctx, func(tx Tx) error {
		var err error
		keys, err = get[SignedKeys](tx, KindKeys, keysKey)
		return err
	})
	return keys, err
}

// KeepKeys stores a key set that the caller has verified, unless there is one
// of its version or a newer one, and returns the newest. From the log it
// reaches every node, and PEPs from there. It is for the node itself: who
// makes a key set holds the root key.
func (s *Service) KeepKeys(ctx context.Context, actor Actor, keys SignedKeys) (SignedKeys, authz.Revision, error) {
	newest := keys
	revision, err := s.change(ctx, actor, auditEntry{"keys.store", "", "keys", map[string]any{"version": keys.Version}}, func(tx Tx) error {
		record, err := tx.Record(KindKeys, keysKey)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil {
			if err := json.Unmarshal(record.Body, &newest); err != nil {
				return fmt.Errorf("decode the stored keys: %w", err)
			}
			if newest.Version >= keys.Version {
				return errKeysKept
			}
		}
		newest = keys
		return put(tx, KindKeys, keysKey, "", s.Now().UTC(), keys)
	})
	if errors.Is(err, errKeysKept) {
		return newest, authz.Revision{}, nil
	}
	return newest, revision, err
}

var errKeysKept = errors.New("there is a newer key set already")
