module dtls

go 1.26

require (
	github.com/pion/dtls/v2 v2.1.3
	github.com/pion/udp v0.1.1
)

require (
	github.com/pion/logging v0.2.2 // indirect
	github.com/pion/transport v0.13.0 // indirect
	golang.org/x/crypto v0.0.0-20220131195533-30dcbda58838 // indirect
	golang.org/x/xerrors v0.0.0-20200804184101-5ec99f83aff1 // indirect
)
