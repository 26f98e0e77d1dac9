// An HTTP server on Debian's libevent: evhttp PORT listens on 127.0.0.1:PORT and
// on the abstract unix socket evhttp-PORT, and answers with the path it is asked for.
// The declarations are libevent's, whose headers need not be installed.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

struct evbuffer;
struct evhttp_request;
struct event_base *event_base_new(void);
int event_base_dispatch(struct event_base *);
struct evhttp *evhttp_new(struct event_base *);
int evhttp_bind_socket(struct evhttp *, const char *, uint16_t);
int evhttp_accept_socket(struct evhttp *, int);
void evhttp_set_gencb(struct evhttp *, void (*)(struct evhttp_request *, void *), void *);
const char *evhttp_request_get_uri(const struct evhttp_request *);
void evhttp_send_reply(struct evhttp_request *, int, const char *, struct evbuffer *);
struct evbuffer *evbuffer_new(void);
int evbuffer_add_printf(struct evbuffer *, const char *, ...);
void evbuffer_free(struct evbuffer *);

static void answer(struct evhttp_request *request, void *unused) {
	struct evbuffer *body = evbuffer_new();
	evbuffer_add_printf(body, "%s\n", evhttp_request_get_uri(request));
	evhttp_send_reply(request, 200, "OK", body);
	evbuffer_free(body);
}

static int listen_unix(const char *port) {
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int name = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "evhttp-%s", port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(fd, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + 1 + name) < 0 || listen(fd, 64) < 0)
		exit(1);
	return fd;
}

int main(int argc, char **argv) {
	struct event_base *base = event_base_new();
	struct evhttp *http = evhttp_new(base);
	evhttp_set_gencb(http, answer, NULL);
	if (argc != 2 || evhttp_accept_socket(http, listen_unix(argv[1])) < 0 || evhttp_bind_socket(http, "127.0.0.1", atoi(argv[1])) < 0)
		return 1;
	return event_base_dispatch(base);
}
