// A service on Debian's libpoppler that takes the first page out of documents, as
// pdfseparate does: pdfpage PORT listens on 127.0.0.1:PORT. A client sends a length,
// four bytes in network order, and a document; it gets a length and the document of
// one page, or a length of 0 where there is none.
#include <arpa/inet.h>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

#include <GlobalParams.h>
#include <PDFDoc.h>
#include <Stream.h>

static bool transfer(int fd, char *b, size_t n, bool in) {
	while (n > 0) {
		ssize_t done = in ? read(fd, b, n) : write(fd, b, n);
		if (done <= 0)
			return false;
		b += done;
		n -= done;
	}
	return true;
}

static bool readText(int fd, std::string &text) {
	uint32_t size;
	if (!transfer(fd, reinterpret_cast<char *>(&size), sizeof size, true) || ntohl(size) > 1 << 20)
		return false;
	text.resize(ntohl(size));
	return transfer(fd, &text[0], text.size(), true);
}

static bool writeText(int fd, std::string text) {
	uint32_t size = htonl(text.size());
	return transfer(fd, reinterpret_cast<char *>(&size), sizeof size, false) && transfer(fd, &text[0], text.size(), false);
}

// firstPage returns the document of one page; empty when there is none.
static std::string firstPage(const std::string &document) {
	char name[] = "/tmp/pdfpage-XXXXXX";
	int out = mkstemp(name);
	if (out < 0)
		return "";
	PDFDoc doc(new MemStream(document.data(), 0, document.size(), Object(objNull)));
	std::string page;
	if (doc.isOk() && doc.savePageAs(GooString(name), 1) == errNone) {
		page.resize(lseek(out, 0, SEEK_END));
		if (pread(out, &page[0], page.size(), 0) != ssize_t(page.size()))
			page.clear();
	}
	close(out);
	unlink(name);
	return page;
}

int main(int argc, char **argv) {
	sockaddr_in at = {};
	at.sin_family = AF_INET;
	at.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, reinterpret_cast<sockaddr *>(&at), sizeof at) < 0 || listen(listener, 64) < 0)
		return 1;
	globalParams = std::make_unique<GlobalParams>();
	globalParams->setErrQuiet(true);
	for (;;) {
		int fd = accept(listener, nullptr, nullptr);
		timeval patience = {1, 0};
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		std::string document;
		if (fd >= 0 && readText(fd, document))
			writeText(fd, firstPage(document));
		close(fd);
	}
}
