CREATE TABLE versioned_like_new LIKE {schema}_models.model;
INSERT INTO versioned_like_new VALUES (1, 1), (2, 2), (3, 3);
UPDATE versioned_like_new SET v = 5 WHERE id = 1;
DELETE FROM versioned_like_new WHERE id = 2;
