module github.com/xiezhi-project/xiezhi/pep-sdk

go 1.26.0

require github.com/xiezhi-project/xiezhi/bundles v0.0.0

replace github.com/xiezhi-project/xiezhi/bundles => ../bundles
