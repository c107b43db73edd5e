package pep

import "github.com/xiezhi-project/xiezhi/bundles/trust"

const (
	trustReleases = trust.PurposeReleases
	trustLog      = trust.PurposeLog
)
