package cheq

import (
	"context"
	"fmt"
)

// Case returns one case as it is stored, or ErrNotFound.
func (s *Service) Case(ctx context.Context, id string) (c Case, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		if c, err = tx.Case(id); err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		return nil
	})
	return c, err
}
