# Answers a POST of an XML document with its text, or 400 and what expat says of it.
# The parser is the libexpat.so.1 that LD_LIBRARY_PATH names.
import http.server
import sys
import xml.parsers.expat


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        document = self.rfile.read(int(self.headers["Content-Length"]))
        text = []
        parser = xml.parsers.expat.ParserCreate()
        parser.CharacterDataHandler = text.append
        try:
            parser.Parse(document, True)
            status, answer = 200, "".join(text)
        except xml.parsers.expat.ExpatError as e:
            status, answer = 400, str(e)
        answer = answer.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(http.server.HTTPServer):
    # One connection at a time, in the main thread: the recursion overflows its stack.
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
