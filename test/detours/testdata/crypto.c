// Works through libcrypto and zlib as Debian built them: digests, ciphers, keys,
// certificates, compression. Its random numbers are always the same.
#include <stdio.h>
#include <string.h>
#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/dh.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <zlib.h>

static unsigned char text[70000], out[200000], back[200000];

static int bytes(unsigned char *b, int n)
{
	static unsigned long long x = 88172645463325252ULL;
	while (n-- > 0) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		*b++ = x >> 24;
	}
	return 1;
}

static int status(void) { return 1; }

static void say(const char *what, const void *p, size_t n)
{
	unsigned long long h = 14695981039346656037ULL;
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const unsigned char *)p)[i]) * 1099511628211ULL;
	printf("%s %zu %016llx\n", what, n, h);
}

static void digests(void)
{
	static const char *const names[] = {"MD5", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SHA512-256", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512", "SHAKE128", "SHAKE256", "BLAKE2B512", "BLAKE2S256", "RIPEMD160", "SM3", "MD5-SHA1"};
	unsigned char md[64];
	for (int i = 0; i < sizeof names / sizeof *names; i++) {
		unsigned n = 0;
		EVP_MD *m = EVP_MD_fetch(0, names[i], 0);
		for (int len = 0; m && len < 5000; len = len * 3 + 7) {
			EVP_Digest(text, len, md, &n, m, 0);
			say(names[i], md, n);
		}
		EVP_MD_free(m);
	}
}

static void ciphers(void)
{
	static const char *const names[] = {"AES-128-ECB", "AES-128-CBC", "AES-192-CTR", "AES-256-CFB", "AES-256-CFB8", "AES-128-OFB", "AES-256-GCM", "AES-128-CCM", "AES-256-OCB", "AES-256-XTS", "AES-128-WRAP", "AES-128-CBC-CTS", "AES-128-CBC-HMAC-SHA1", "AES-128-SIV", "DES-EDE3-CBC", "DES-EDE3-CFB1", "CAMELLIA-128-CBC", "CAMELLIA-256-CTR", "ARIA-128-CBC", "ARIA-256-GCM", "SM4-CBC", "ChaCha20", "ChaCha20-Poly1305"};
	unsigned char key[64], iv[32], tag[16];
	bytes(key, 64), bytes(iv, 32);
	for (int i = 0; i < sizeof names / sizeof *names; i++) {
		EVP_CIPHER *c = EVP_CIPHER_fetch(0, names[i], 0);
		for (int len = 16; c && len < 5000; len = len * 5) {
			EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
			int n = 0, m = 0, k = 0, j = 0, ok;
			ok = EVP_EncryptInit_ex2(x, c, key, iv, 0) && EVP_EncryptUpdate(x, out, &n, text, len) && EVP_EncryptFinal_ex(x, out + n, &m);
			EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, 16, tag);
			say(names[i], out, n + m);
			EVP_CIPHER_CTX_reset(x);
			ok = ok * 2 + (EVP_DecryptInit_ex2(x, c, key, iv, 0) && EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_SET_TAG, 16, tag) | 1 && EVP_DecryptUpdate(x, back, &k, out, n + m) && EVP_DecryptFinal_ex(x, back + k, &j));
			printf("%d %d %d\n", ok, k + j, memcmp(back, text, k + j));
			EVP_CIPHER_CTX_free(x);
		}
		EVP_CIPHER_free(c);
	}
}

static void derive(const char *name, OSSL_PARAM *p)
{
	EVP_KDF *k = EVP_KDF_fetch(0, name, 0);
	EVP_KDF_CTX *x = EVP_KDF_CTX_new(k);
	int ok = EVP_KDF_derive(x, out, 48, p);
	printf("%d ", ok);
	say(name, out, ok > 0 ? 48 : 0);
	EVP_KDF_CTX_free(x);
	EVP_KDF_free(k);
}

static void derivations(void)
{
	unsigned n = 100, r = 8, one = 1;
	unsigned long long cost = 256;
	OSSL_PARAM p[] = {
		OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0),
		OSSL_PARAM_construct_octet_string("pass", "secret", 6), OSSL_PARAM_construct_octet_string("key", "secret", 6),
		OSSL_PARAM_construct_octet_string("secret", "secret", 6), OSSL_PARAM_construct_octet_string("seed", "seed", 4),
		OSSL_PARAM_construct_octet_string("salt", "saltsaltsaltsalt", 16), OSSL_PARAM_construct_octet_string("info", "info", 4),
		OSSL_PARAM_construct_uint("iter", &n), OSSL_PARAM_construct_uint64("n", (void *)&cost), OSSL_PARAM_construct_uint("r", &r),
		OSSL_PARAM_construct_uint("p", &one), OSSL_PARAM_construct_utf8_string("mac", "HMAC", 0), OSSL_PARAM_construct_end()};
	static const char *const names[] = {"HKDF", "PBKDF2", "TLS1-PRF", "SCRYPT", "KBKDF", "SSKDF", "X963KDF"};
	for (int i = 0; i < sizeof names / sizeof *names; i++)
		derive(names[i], p);
	static const char *const macs[] = {"HMAC", "CMAC", "POLY1305", "SIPHASH", "KMAC128", "BLAKE2BMAC", "GMAC"};
	for (int i = 0; i < sizeof macs / sizeof *macs; i++) {
		size_t len = 0;
		int ok = EVP_Q_mac(0, macs[i], 0, i == 1 ? "AES-128-CBC" : i == 6 ? "AES-128-GCM" : "SHA256", p + 12, text, i == 3 || i == 1 || i == 6 ? 16 : 32, text, 1000, out, sizeof out, &len) != 0;
		printf("%d ", ok);
		say(macs[i], out, ok ? len : 0);
	}
}

static EVP_PKEY *key(const char *type, const char *group, int bits)
{
	EVP_PKEY_CTX *x = EVP_PKEY_CTX_new_from_name(0, type, 0);
	EVP_PKEY *k = 0;
	EVP_PKEY_keygen_init(x);
	if (group)
		EVP_PKEY_CTX_set_group_name(x, group);
	if (bits)
		EVP_PKEY_CTX_set_rsa_keygen_bits(x, bits);
	printf("%s %s %d\n", type, group ? group : "", EVP_PKEY_generate(x, &k));
	EVP_PKEY_CTX_free(x);
	return k;
}

static void sign(EVP_PKEY *k, const EVP_MD *md)
{
	EVP_MD_CTX *x = EVP_MD_CTX_new();
	size_t n = sizeof out;
	int ok = EVP_DigestSignInit(x, 0, md, 0, k) > 0 && EVP_DigestSign(x, out, &n, text, 3000) > 0;
	EVP_MD_CTX_reset(x);
	printf("signed %d ", ok);
	say("signature", out, ok ? n : 0);
	ok = EVP_DigestVerifyInit(x, 0, md, 0, k) > 0 && EVP_DigestVerify(x, out, n, text, 3000) > 0;
	text[5] ^= 1;
	EVP_MD_CTX_reset(x);
	printf("right %d wrong %d\n", ok, EVP_DigestVerifyInit(x, 0, md, 0, k) > 0 && EVP_DigestVerify(x, out, n, text, 3000) > 0);
	text[5] ^= 1;
	EVP_MD_CTX_free(x);
}

static void agree(EVP_PKEY *a, EVP_PKEY *b)
{
	EVP_PKEY_CTX *x = EVP_PKEY_CTX_new(a, 0);
	size_t n = sizeof out;
	int ok = EVP_PKEY_derive_init(x) > 0 && EVP_PKEY_derive_set_peer(x, b) > 0 && EVP_PKEY_derive(x, out, &n) > 0;
	printf("agreed %d ", ok);
	say("secret", out, ok ? n : 0);
	EVP_PKEY_CTX_free(x);
}

static void wrap(EVP_PKEY *k, int padding)
{
	EVP_PKEY_CTX *x = EVP_PKEY_CTX_new(k, 0);
	size_t n = sizeof out, m = sizeof back;
	int ok = EVP_PKEY_encrypt_init(x) > 0 && EVP_PKEY_CTX_set_rsa_padding(x, padding) > 0 && EVP_PKEY_encrypt(x, out, &n, text, 60) > 0;
	say("encrypted", out, ok ? n : 0);
	ok = ok && EVP_PKEY_decrypt_init(x) > 0 && EVP_PKEY_CTX_set_rsa_padding(x, padding) > 0 && EVP_PKEY_decrypt(x, back, &m, out, n) > 0;
	printf("decrypted %d %d\n", ok, ok ? memcmp(back, text, m) : 0);
	EVP_PKEY_CTX_free(x);
}

static X509 *certificate(EVP_PKEY *k)
{
	X509 *c = X509_new();
	X509V3_CTX v;
	X509_set_version(c, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(c), 4711);
	ASN1_TIME_set_string(X509_getm_notBefore(c), "20240101000000Z");
	ASN1_TIME_set_string(X509_getm_notAfter(c), "20440101000000Z");
	X509_set_pubkey(c, k);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8, (void *)"a n\xc3\xa4me", -1, -1, 0);
	X509_set_issuer_name(c, X509_get_subject_name(c));
	X509V3_set_ctx(&v, c, c, 0, 0, 0);
	static const char *const ext[][2] = {{"basicConstraints", "critical,CA:TRUE"}, {"keyUsage", "keyCertSign,digitalSignature"}, {"subjectKeyIdentifier", "hash"}, {"subjectAltName", "DNS:example.org,IP:10.0.0.1,email:a@b.c,URI:http://x/"}, {"nameConstraints", "permitted;DNS:.org"}, {"certificatePolicies", "1.2.3.4"}};
	for (int i = 0; i < sizeof ext / sizeof *ext; i++) {
		X509_EXTENSION *e = X509V3_EXT_conf(0, &v, ext[i][0], ext[i][1]);
		printf("%s %d\n", ext[i][0], e && X509_add_ext(c, e, -1));
		X509_EXTENSION_free(e);
	}
	printf("%d\n", X509_sign(c, k, EVP_sha256()));
	return c;
}

static void certificates(EVP_PKEY *k)
{
	BIO *b = BIO_new_fp(stdout, BIO_NOCLOSE), *m = BIO_new(BIO_s_mem());
	X509 *c = certificate(k), *d;
	X509_print_ex(b, c, XN_FLAG_ONELINE, 0);
	PEM_write_bio_X509(m, c);
	PEM_write_bio_PKCS8PrivateKey(m, k, EVP_aes_128_cbc(), "pw", 2, 0, 0);
	d = PEM_read_bio_X509(m, 0, 0, 0);
	EVP_PKEY *again = PEM_read_bio_PrivateKey(m, 0, 0, "pw");
	printf("same %d %d\n", X509_cmp(c, d), EVP_PKEY_eq(k, again));
	X509_STORE *s = X509_STORE_new();
	X509_STORE_CTX *x = X509_STORE_CTX_new();
	X509_STORE_add_cert(s, c);
	X509_STORE_CTX_init(x, s, d, 0);
	X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(x), 1800000000);
	printf("verified %d %s\n", X509_verify_cert(x), X509_verify_cert_error_string(X509_STORE_CTX_get_error(x)));
	printf("host %d %d\n", X509_check_host(d, "example.org", 0, 0, 0), X509_check_host(d, "example.com", 0, 0, 0));
	PKCS12 *p = PKCS12_create("pw", "name", k, c, 0, 0, 0, 100, 100, 0);
	EVP_PKEY *pk = 0;
	X509 *pc = 0;
	printf("pkcs12 %d\n", p && PKCS12_parse(p, "pw", &pk, &pc, 0));
	BIO *in = BIO_new_mem_buf(text, 500);
	CMS_ContentInfo *cms = CMS_sign(c, k, 0, in, CMS_BINARY | CMS_NOSMIMECAP | CMS_NOATTR);
	int n = cms ? i2d_CMS_bio(m, cms) : 0;
	printf("cms %d %d\n", n, cms && CMS_verify(cms, 0, s, 0, 0, CMS_NO_SIGNER_CERT_VERIFY));
	for (unsigned long e; (e = ERR_get_error()) != 0;)
		puts(ERR_reason_error_string(e));
	BIO_free(b), BIO_free(m), BIO_free(in);
	X509_free(c), X509_free(d), X509_STORE_free(s), X509_STORE_CTX_free(x), CMS_ContentInfo_free(cms), PKCS12_free(p);
}

static void numbers(void)
{
	BN_CTX *x = BN_CTX_new();
	BIGNUM *a = BN_new(), *b = BN_new(), *m = BN_new(), *r = BN_new();
	for (int bits = 64; bits <= 2048; bits *= 2) {
		BN_rand(a, bits, 0, 0), BN_rand(b, bits, 0, 0), BN_rand(m, bits, 0, 1);
		BN_mod_exp(r, a, b, m, x), say("exp", out, BN_bn2bin(r, out));
		BN_mul(r, a, b, x), BN_div(r, 0, r, m, x), say("div", out, BN_bn2bin(r, out));
		BN_gcd(r, a, b, x), BN_sqr(r, r, x), say("gcd", out, BN_bn2bin(r, out));
		if (BN_mod_inverse(r, a, m, x))
			say("inverse", out, BN_bn2bin(r, out));
	}
	BN_generate_prime_ex(r, 256, 1, 0, 0, 0);
	char *s = BN_bn2dec(r);
	puts(s);
	printf("%d\n", BN_dec2bn(&a, s) && BN_cmp(a, r) == 0);
	OPENSSL_free(s), BN_free(a), BN_free(b), BN_free(m), BN_free(r), BN_CTX_free(x);
}

static void compression(void)
{
	for (int level = 0; level <= 9; level += 3)
		for (int strategy = 0; strategy <= 4; strategy++) {
			z_stream z = {0}, y = {0};
			deflateInit2(&z, level, 8, strategy % 2 ? 31 : 15, 8, strategy);
			z.next_in = text, z.avail_in = sizeof text, z.next_out = out, z.avail_out = sizeof out;
			int a = deflate(&z, Z_FINISH);
			say("deflated", out, z.total_out);
			inflateInit2(&y, 47);
			y.next_in = out, y.avail_in = z.total_out;
			int b = 0;
			while (y.avail_out = 777, y.next_out = back + y.total_out, (b = inflate(&y, Z_NO_FLUSH)) == Z_OK)
				;
			printf("%d %d %d\n", a, b, memcmp(text, back, sizeof text));
			deflateEnd(&z), inflateEnd(&y);
		}
	printf("%lx %lx %d\n", crc32(1, text, 5001), adler32(1, text, 5001), uncompress(back, &(uLongf){10}, out, 20));
	gzFile f = gzopen("file.gz", "wb9");
	gzprintf(f, "%d lines\n", 1), gzwrite(f, text, 3000), gzclose(f);
	f = gzopen("file.gz", "rb");
	char line[80];
	fputs(gzgets(f, line, sizeof line), stdout), printf("%d %ld\n", gzread(f, back, 5000), gztell(f)), gzclose(f);
}

int main(void)
{
	static RAND_METHOD fixed = {0, bytes, 0, 0, bytes, status};
	RAND_set_rand_method(&fixed);
	for (int i = 0; i < sizeof text; i++)
		text[i] = i % 7 ? "etaoin shrdlu"[i * i % 13] : i >> 3;
	digests(), ciphers(), derivations(), numbers(), compression();
	EVP_PKEY *rsa = key("RSA", 0, 1024), *pss = key("RSA-PSS", 0, 1024), *ed = key("ED25519", 0, 0), *ed4 = key("ED448", 0, 0);
	sign(rsa, EVP_sha256()), sign(rsa, EVP_sha512()), sign(pss, EVP_sha256()), sign(ed, 0), sign(ed4, 0);
	wrap(rsa, RSA_PKCS1_PADDING), wrap(rsa, RSA_PKCS1_OAEP_PADDING), wrap(rsa, RSA_NO_PADDING);
	agree(key("X25519", 0, 0), key("X25519", 0, 0)), agree(key("X448", 0, 0), key("X448", 0, 0)), agree(key("DH", "ffdhe2048", 0), key("DH", "ffdhe2048", 0));
	static const char *const groups[] = {"P-256", "P-384", "P-521", "P-224", "secp256k1", "brainpoolP256r1", "sect233k1", "sect283r1", "prime192v1"};
	for (int i = 0; i < sizeof groups / sizeof *groups; i++) {
		EVP_PKEY *a = key("EC", groups[i], 0), *b = key("EC", groups[i], 0);
		sign(a, EVP_sha256()), agree(a, b);
	}
	certificates(rsa), certificates(key("EC", "P-256", 0));
	return 0;
}
