package postgres

import (
	"context"
	"testing"

	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

var driver = storetest.Driver{
	New: func(t testing.TB) string { return storetest.PostgresSchema(t) },
	Open: func(ctx context.Context, location string) (storetest.Store, error) {
		return Open(ctx, location, Options{})
	},
	Exec:        storetest.PostgresExec,
	ErrNewer:    ErrNewer,
	WakesAcross: true,
}

func TestMain(m *testing.M) { storetest.Main(m, driver) }

func TestConformance(t *testing.T) { storetest.Run(t, driver) }
