CREATE TABLE create_like_b LIKE create_like_a;
INSERT INTO create_like_b SELECT id + 1, v FROM create_like_a;
CREATE TABLE create_like_c LIKE create_like_b;
