module sshd

go 1.26

require golang.org/x/crypto v0.0.0-20200204104054-c9f3fb736b72

require golang.org/x/sys v0.0.0-20190412213103-97732733099d // indirect
