module github.com/xiezhi-project/xiezhi/pep-sdk

go 1.26.0
