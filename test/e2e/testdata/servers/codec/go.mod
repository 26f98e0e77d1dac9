module codec

go 1.26

require (
	github.com/dvsekhvalnov/jose2go v1.5.0
	golang.org/x/net v0.0.0-20180826012351-8a410e7b638d
	golang.org/x/text v0.3.5
	google.golang.org/protobuf v1.29.0
	gopkg.in/yaml.v3 v3.0.0-20210107192922-496545a6307b
)
