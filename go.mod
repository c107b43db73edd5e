module github.com/xiezhi-project/xiezhi

go 1.26.0

require github.com/xiezhi-project/xiezhi/pep-sdk v0.0.0

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/xiezhi-project/xiezhi/pep-sdk => ./pep-sdk
