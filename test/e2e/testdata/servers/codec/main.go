// Command codec is a server that decodes documents with old Go libraries. A
// client sends "KIND BASE64" in a line and gets "ok WHAT" or "error WHY" in a line.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	jose "github.com/dvsekhvalnov/jose2go"
	"golang.org/x/net/html"
	"golang.org/x/text/language"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/apipb"
	"gopkg.in/yaml.v3"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go handle(conn)
	}
}

func handle(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		kind, encoded, _ := strings.Cut(in.Text(), " ")
		document, err := base64.StdEncoding.DecodeString(encoded)
		var answer string
		if err == nil {
			answer, err = decode(kind, document)
		}
		if err != nil {
			fmt.Fprintf(conn, "error %q\n", err)
		} else {
			fmt.Fprintf(conn, "ok %q\n", answer)
		}
	}
}

func decode(kind string, document []byte) (string, error) {
	switch kind {
	case "accept-language":
		tags, _, err := language.ParseAcceptLanguage(string(document))
		return fmt.Sprint(tags), err
	case "json":
		var m apipb.Api
		err := protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(document, &m)
		return m.Name, err
	case "text":
		var m apipb.Api
		err := prototext.Unmarshal(document, &m)
		return fmt.Sprint(m.Name, int32(m.Syntax)), err
	case "html":
		node, err := html.Parse(strings.NewReader(string(document)))
		if err != nil {
			return "", err
		}
		var out strings.Builder
		err = html.Render(&out, node)
		return out.String(), err
	case "yaml":
		var value any
		err := yaml.Unmarshal(document, &value)
		return fmt.Sprint(value), err
	case "jwe":
		payload, _, err := jose.Decode(string(document), "top secret")
		return payload, err
	case "seal":
		return jose.Encrypt(string(document), jose.PBES2_HS256_A128KW, jose.A128GCM, "top secret")
	}
	return "", fmt.Errorf("no kind %q", kind)
}
